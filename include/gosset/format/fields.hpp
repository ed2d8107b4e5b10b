// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/format/stored_array.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// How a type tells what it keeps, in one place for all who ask: byte counts, files, archives, equality.
namespace gosset::GOSSET_ABI {

/// The numbers of a field: a StoredArray, a std::vector or a single number.
template <class T>
std::span<const T> fieldValues(const StoredArray<T>& field) {
  return field.values();
}
template <class T>
std::span<const T> fieldValues(const std::vector<T>& field) {
  return field;
}
template <class T>
requires std::is_arithmetic_v<T> std::span<const T> fieldValues(const T& field) { return {&field, 1}; }

/// How many numbers a field has.
template <class Field>
std::size_t fieldSize(const Field& field) {
  if constexpr (requires { field.size(); }) return field.size();
  return 1;
}

template <class T>
std::span<T> writableValues(StoredArray<T>& field) {
  return field.writable();
}
template <class T>
std::span<T> writableValues(std::vector<T>& field) {
  return field;
}
template <class T>
requires std::is_arithmetic_v<T> std::span<T> writableValues(T& field) { return {&field, 1}; }

/// Gives Self its visitors from one public static function,
///
///   template <class S, class Visit> static void fields(S& self, const Visit& visit);
///
/// which calls visit(name, self.array) for each StoredArray, vector or number that it keeps, and nothing else; S is
/// Self or const Self. Names are unique.
template <class Self>
class VisitsFields {
 public:
  /// Calls visit(name, span of const numbers) for each.
  template <class Visit>
  void visitFields(const Visit& visit) const {
    Self::fields(static_cast<const Self&>(*this),
                 [&](std::string_view name, const auto& field) { visit(name, fieldValues(field)); });
  }
  /// The same to be written; what is a view becomes a copy of its own.
  template <class Visit>
  void visitFields(const Visit& visit) {
    Self::fields(static_cast<Self&>(*this),
                 [&](std::string_view name, auto& field) { visit(name, writableValues(field)); });
  }
};

/// The fields of a part, their names behind a prefix: for fields() of what has parts.
template <class Part, class Visit>
void visitWithin(std::string_view prefix, Part& part, const Visit& visit) {
  std::remove_const_t<Part>::fields(
      part, [&](std::string_view name, auto& field) { visit(std::string(prefix) + std::string(name), field); });
}

/// How many numbers a file holds of an array, by the array's name: true or not.
using FieldLengths = std::function<Index(std::string_view name)>;

/// The lengths for a part whose arrays are called <prefix><name>. Nothing where there are none.
inline FieldLengths lengthsWithin(std::string prefix, const FieldLengths& lengths) {
  if (!lengths) return {};
  return [prefix = std::move(prefix), &lengths](std::string_view name) { return lengths(prefix + std::string(name)); };
}

namespace detail {

/// Whether all floats among the numbers are finite; numbers of other types always are.
template <class T>
bool areFinite(std::span<const T> values) {
  if constexpr (StorageScalar<T>) {
    using Bits = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>;
    constexpr Bits kExponent =
        std::is_same_v<T, Float16> ? 0x7c00u : static_cast<Bits>(sizeof(T) == 2 ? 0x7f80u : 0x7f800000u);
    unsigned found = 0;
    for (const T& value : values) found |= (std::bit_cast<Bits>(value) & kExponent) == kExponent ? 1u : 0u;
    return found == 0;
  } else {
    return true;
  }
}

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
