// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/format/name.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantize.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// Formats by name: a program lists those it was compiled for, and chooses among them when it runs.
namespace gosset::GOSSET_ABI {

/// The formats that a program knows. A new one costs a line.
///
///   using Formats = FormatList<PerChannel<Symmetric<8>>, Grouped<Asymmetric<4>, 32>, Incoherent<E8P>, Float16>;
template <class... Formats>
struct FormatList {
  static_assert((Format<Formats> && ...), "FormatList<Formats...>: each must be a format, see format/concepts.hpp");

  /// The names, in order.
  static std::vector<std::string> names() { return {Packed<Formats>::formatName()...}; }

  /// The names as a sentence has them: "A; B; C".
  static std::string text() {
    std::string text;
    for (const std::string& name : names()) text += (text.empty() ? "" : "; ") + name;
    return text;
  }

  static bool contains([[maybe_unused]] std::string_view name) {
    return (sameFormat(name, Packed<Formats>::formatName()) || ...);
  }

  /// visit(std::type_identity<F>{}) for the format F of that name; nothing where the list has none. Visit returns the
  /// same type for all.
  template <class Visit>
  static auto visit([[maybe_unused]] std::string_view name, const Visit& visit) {
    using Result = std::common_type_t<decltype(visit(std::type_identity<Formats>{}))...>;
    std::optional<Result> result;
    const auto tryOne = [&]<class F>(std::type_identity<F> format) {
      if (!sameFormat(name, Packed<F>::formatName())) return false;
      result.emplace(visit(format));
      return true;
    };
    static_cast<void>((tryOne(std::type_identity<Formats>{}) || ...));
    return result;
  }
};

/// Quantizes W (m x n, out x in) into the format of a list that has this name, as quantize<Format>(W, rounding,
/// options) does. Names are those of C++ without namespace; spaces do not matter. Errors: std::invalid_argument where
/// the list has no such format (the text says which it has), where the rounding does not go with it, and as quantize().
template <class List, class Derived, class Rounding = Nearest>
[[nodiscard]] AnyMatrix quantizeAs(std::string_view format, const Eigen::DenseBase<Derived>& w, Rounding rounding = {},
                                   const QuantizeOptions& options = {}) {
  static_assert(DenseExpression<Derived>,
                "quantizeAs<Formats>(name, W): W must hold float, double, Eigen::half or Eigen::bfloat16");
  auto result = List::visit(format, [&]<class F>(std::type_identity<F>) -> AnyMatrix {
    constexpr detail::Refusal kRefusal = detail::refusalOf<F, Rounding>();
    if constexpr (kRefusal == detail::Refusal::kNone) {
      return AnyMatrix(detail::quantizeUnchecked<F>(w, std::move(rounding), options));
    } else {
      detail::invalidArgument("quantizeAs: ", format, ": ", detail::refusalText(kRefusal));
    }
  });
  detail::require(result.has_value(), "quantizeAs: there is no format ", format, " here; there are ", List::text());
  return *std::move(result);
}

}  // namespace gosset::GOSSET_ABI
