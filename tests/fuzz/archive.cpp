// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/codebook/symmetric.hpp>
#include <gosset/codebook/ternary.hpp>
#include <gosset/codebook/trellis.hpp>
#include <gosset/entropy.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/format_list.hpp>

#include <algorithm>
#include <cstring>

// An input is a byte, which chooses what is asked for, and an archive.
namespace gosset::fuzz {
namespace {

using Formats =
    FormatList<PerChannel<Ternary>, Grouped<Asymmetric<3>, 32>, Incoherent<LlmInt8>, PerChannel<TrellisMixed>>;
constexpr std::uint8_t kBytes = 4, kKinds = 5;  ///< bytes of no format, behind the formats

template <class F>
void readMatrix(View archived, Progress& progress) {
  const QuantizedMatrix<F> q = unarchive<F>(archived);
  progress.load();
  constexpr Index kLarge = 2000;  // the products of some lengths take memory that grows with their square
  if (q.rows() > kLarge || q.cols() > kLarge) return;
  const Eigen::MatrixXf y = q * someMatrix(q.cols(), 2);
  expect(y.rows() == q.rows(), "a product's shape");
  expect(unarchive<F>(archive(q)) == q, "the same matrix");
}

/// Whether the name of a format is there that is known here.
bool namesFormat(View archived) {
  if (archived.size() < 6 || std::memcmp(archived.data(), "gAR2", 4) != 0) return false;
  const std::size_t length = archived[4] + 256u * archived[5];
  return length <= archived.size() - 6 &&
         Formats::contains({reinterpret_cast<const char*>(archived.data()) + 6, length});
}

void readBytes(View archived, Progress& progress) {
  std::uint64_t count = 0;
  if (archived.size() >= 12) std::memcpy(&count, archived.data() + 4, 8);
  Bytes bytes(static_cast<std::size_t>(std::min<std::uint64_t>(count, 4096)));
  if (archived.size() >= 22 && bytes.size() == count) progress.passHeader();
  decodeBytes(archived, bytes);
  progress.load();
  expect(bytes.size() == count, "as many bytes");
  Bytes again(bytes.size());
  decodeBytes(encodeBytes(bytes), again);
  expect(again == bytes, "the same bytes");
}

void read(View input, Progress& progress) {
  if (input.empty()) return;
  const View archived = input.subspan(1);
  if (input[0] % kKinds == kBytes) return readBytes(archived, progress);
  if (namesFormat(archived)) progress.passHeader();
  const std::string name = Formats::names()[input[0] % kKinds];
  Formats::visit(name, [&]<class F>(std::type_identity<F>) {
    readMatrix<F>(archived, progress);
    return 0;
  });
}

Bytes behind(std::uint8_t kind, const std::vector<std::uint8_t>& archived) {
  Bytes bytes = {kind};
  bytes.insert(bytes.end(), archived.begin(), archived.end());
  return bytes;
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> seeds;
  std::uint8_t kind = 0;
  for (const std::string& name : Formats::names()) {
    Formats::visit(name, [&]<class F>(std::type_identity<F>) {
      seeds.push_back(behind(kind, archive(QuantizedMatrix<F>(somePacked<F>(7, 70)))));
      seeds.push_back(behind(kind, archive(QuantizedMatrix<F>(Packed<F>::shaped(64, 256)))));
      return 0;
    });
    ++kind;
  }
  Bytes bytes(200);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * i % 7);
  seeds.push_back(behind(kBytes, encodeBytes(bytes)));
  seeds.push_back(behind(kBytes, encodeBytes(Bytes(50, 3))));
  seeds.push_back(behind(kBytes, encodeBytes({})));
  return seeds;
}

/// Where the numbers of an archive stand, and where an array's content, with the number of its bytes before it.
struct Place {
  std::size_t at, width;
  bool is_content;
};

std::vector<Place> placesOf(View archived) {
  detail::ArchiveReader reader(archived);
  std::vector<Place> places;
  const auto here = [&] { return archived.size() - reader.rest().size(); };
  const auto number = [&]<class T>(T) {
    places.push_back({here(), sizeof(T), false});
    return reader.number<T>();
  };
  reader.take(4);
  detail::readText(reader);
  number(std::uint64_t{});
  number(std::uint64_t{});
  while (!reader.rest().empty()) {
    detail::readText(reader);
    number(std::uint64_t{});
    number(std::uint8_t{});
    const auto length = number(std::uint64_t{});
    places.push_back({here(), static_cast<std::size_t>(length), true});
    reader.take(length);
  }
  return places;
}

/// Another content, coded anew where it was coded, so that its check is right.
Bytes changedContent(View content, Random& random) {
  std::uint64_t count = 0;
  if (content.size() >= 22) std::memcpy(&count, content.data() + 4, 8);
  Bytes bytes(static_cast<std::size_t>(std::min<std::uint64_t>(count, 4096)));
  try {
    decodeBytes(content, bytes);
    mutateInPlace(bytes);
    return encodeBytes(bytes);
  } catch (const FormatError&) {
    Bytes plain(content.begin(), content.end());
    if (below(8, random) == 0) return mutateFreely(content, content.size() + 8);
    mutateInPlace(plain);
    return plain;
  }
}

Bytes mutate(View input, std::size_t most, Random& random) {
  if (input.size() < 5 || below(16, random) == 0) return mutateFreely(input, most);
  Bytes bytes(input.begin(), input.end());
  if (below(32, random) == 0) bytes[0] = static_cast<std::uint8_t>(below(kKinds, random));
  const View archived = input.subspan(1);
  if (bytes[0] % kKinds == kBytes) {
    if (below(4, random) == 0) return behind(kBytes, changedContent(archived, random));
    const std::span<std::uint8_t> tail =
        std::span(bytes).subspan(below(2, random) == 0 ? 5 : std::min<std::size_t>(23, bytes.size()));
    mutateInPlace(tail);
    return bytes;
  }
  const std::vector<Place> places = placesOf(archived);
  const Place place = places[below(places.size(), random)];
  if (!place.is_content) {
    mutateNumber(std::span(bytes).subspan(1 + place.at, place.width), place.width, random);
    return bytes;
  }
  const Bytes content = changedContent(archived.subspan(place.at, place.width), random);
  const std::uint64_t length = content.size();
  std::memcpy(bytes.data() + 1 + place.at - 8, &length, 8);
  const auto at = bytes.begin() + 1 + static_cast<std::ptrdiff_t>(place.at);
  bytes.erase(at, at + static_cast<std::ptrdiff_t>(place.width));
  bytes.insert(bytes.begin() + 1 + static_cast<std::ptrdiff_t>(place.at), content.begin(), content.end());
  return bytes;
}

}  // namespace

Reader archiveReader() { return {"archive", seeds, read, mutate}; }

}  // namespace gosset::fuzz
