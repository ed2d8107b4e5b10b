// SPDX-License-Identifier: Apache-2.0
// The vectors of include/gosset/io/LAYOUTS.md, against the library, and against a reader that is written from that page
// alone and shares no line with it.
#include <gosset/codebook.hpp>
#include <gosset/entropy.hpp>
#include <gosset/format.hpp>
#include <gosset/hadamard.hpp>
#include <gosset/io.hpp>
#include <gosset/matrix.hpp>

#include "io/layouts_reader_formats.hpp"
#include "io/layouts_records.hpp"
#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gosset::layouts_test {
namespace {

Index numberIn(const Record& record, const char* key) { return std::stol(record.at(key)); }
std::uint64_t seedIn(const Record& record) { return std::stoull(record.at("seed")); }

reader::Arrays arraysOf(const Record& record) {
  reader::Arrays arrays;
  for (const auto& [key, value] : record) {
    const auto parts = words(key);
    if (parts[0] == "array") arrays[parts[1]] = {parts[2], bytesOf(value)};
  }
  return arrays;
}

/// The library's matrix with a record's arrays.
template <class P>
P packedOf(const Record& record) {
  const reader::Arrays arrays = arraysOf(record);
  P packed = P::shaped(numberIn(record, "rows"), numberIn(record, "cols"), [&](std::string_view name) {
    const reader::Array& array = arrays.at(std::string(name));
    return static_cast<Index>(reader::numbers(array.dtype, array.bytes).size());
  });
  std::size_t visited = 0;
  packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
    ++visited;
    const auto found = arrays.find(std::string(name));
    ASSERT_NE(found, arrays.end()) << name;
    EXPECT_EQ(found->second.dtype, dtypeName(dtypeOf<T>())) << name;
    ASSERT_EQ(found->second.bytes.size(), values.size_bytes()) << name;
    if (!values.empty()) std::memcpy(values.data(), found->second.bytes.data(), values.size_bytes());
  });
  EXPECT_EQ(visited, arrays.size());
  return packed;
}

/// A record's matrix as the library reads it, and that quantize() gives the same bytes of its weights.
template <class Format>
void checkMatrix(const Record& record, double tolerance) {
  const auto packed = packedOf<Packed<Format>>(record);
  const RowMatrixXf decoded = packed.dequantized();
  const std::vector<float> expected = floats(record.at("values"));
  ASSERT_EQ(decoded.size(), static_cast<Index>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(decoded.data()[i], expected[i], tolerance) << "number " << i;
  }
  if constexpr (Codebook<Format> || ScaledFormat<Format> || StorageScalar<Format>) {
    std::vector<float> w = floats(record.at("weights"));
    const Eigen::Map<RowMatrixXf> weights(w.data(), packed.rows(), packed.cols());
    EXPECT_EQ(quantize<Format>(weights), QuantizedMatrix<Format>(packed));
  }
}

/// Calls check<Format>() for the format of that name.
template <class... Formats, class Check>
void withFormat(const std::string& name, const Check& check) {
  bool found = false;
  const auto tryOne = [&]<class F>(std::type_identity<F>) {
    if (Packed<F>::formatName() != name) return;
    found = true;
    check(std::type_identity<F>{});
  };
  (tryOne(std::type_identity<Formats>{}), ...);
  EXPECT_TRUE(found) << "this test knows no " << name;
}

TEST(Layouts, RandomNumbers) {
  for (const Record& record : records("random")) {
    const std::uint64_t seed = seedIn(record);
    const auto bits = words(record.at("bits"));
    const auto uniform = floats(record.at("uniform"));
    for (std::uint64_t i = 0; i < bits.size(); ++i) {
      const std::uint64_t expected = std::stoull(bits[i], nullptr, 16);
      EXPECT_EQ(randomBits(seed, i), expected);
      EXPECT_EQ(reader::bits(seed, i), expected);
      EXPECT_EQ(randomUniform(seed, i), uniform[i]);
      EXPECT_EQ(static_cast<double>(reader::bits(seed, i) >> 40) / (1 << 24), static_cast<double>(uniform[i]));
    }
  }
  for (const Record& record : records("signs")) {
    const std::string& signs = record.at("signs");
    const auto library = randomSigns<double>(seedIn(record), static_cast<Index>(signs.size()));
    for (std::size_t i = 0; i < signs.size(); ++i) {
      EXPECT_EQ(library[static_cast<Index>(i)], signs[i] == '-' ? -1 : 1);
      EXPECT_EQ(reader::sign(seedIn(record), i), signs[i] == '-' ? -1 : 1);
    }
  }
}

template <class C>
void checkTiles(const Record& record, const Bytes& bytes) {
  const Index rows = numberIn(record, "rows"), count = numberIn(record, "codes");
  const detail::TileLayout<C> layout(rows, count);
  ASSERT_EQ(static_cast<Index>(bytes.size()), layout.bytes());
  CodeMatrix<C> codes(rows, count);
  Bytes packed(bytes.size());
  for (Index block = 0; block < layout.blocks(); ++block) {
    layout.unpackBlock(bytes.data(), block, codes.row(16 * block).data(), count);
    layout.packBlock(codes.row(16 * block).data(), count, block, packed.data());
  }
  EXPECT_EQ(packed, bytes);
  const auto m = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(count);
  for (std::size_t row = 0; row < m; ++row) {
    for (std::size_t i = 0; i < k; ++i) {
      const std::uint64_t expected = reader::bits(seedIn(record), row * k + i) & ((std::uint64_t{1} << C::kBits) - 1);
      EXPECT_EQ(reader::codeAt(bytes, m, k, C::kBits, C::kDim, row, i), expected) << row << ", " << i;
      EXPECT_EQ(codes(static_cast<Index>(row), static_cast<Index>(i)), expected) << row << ", " << i;
    }
  }
}

TEST(Layouts, Tiles) {
  for (const Record& record : records("tiles")) {
    const Bytes bytes = bytesOf(record.at("bytes"));
    SCOPED_TRACE(record.at("bits") + " bits");
    switch (numberIn(record, "bits")) {
      case 3:
        checkTiles<Asymmetric<3>>(record, bytes);
        break;
      case 4:
        checkTiles<Symmetric<4>>(record, bytes);
        break;
      case 16:
        checkTiles<E8P>(record, bytes);
        break;
      default:
        checkTiles<E8PRvq3>(record, bytes);
    }
  }
}

/// The state of a number of a trellis code, as the page says. sums[t]: of the rates of the tiles up to and with t.
unsigned trellisState(const Bytes& codes, std::size_t rows, std::size_t cols, const std::vector<std::size_t>& sums,
                      std::size_t row, std::size_t col) {
  constexpr std::size_t kStateBits = 14;
  const std::size_t blocks = (rows + 15) / 16, bands = std::max<std::size_t>(1, blocks / 8), block = row / 16;
  const std::size_t band = std::min(block / 8, bands - 1), end = band + 1 < bands ? 8 * band + 8 : blocks;
  const std::size_t next = block + 1 < end ? block + 1 : 8 * band;
  const auto before = [&](std::size_t tile) { return tile == 0 ? 0 : sums[tile - 1]; };
  const std::size_t last = (cols - 1) / 32, tile = col / 32, r = sums[tile] - before(tile);
  const std::size_t block_bytes = 8 * before(last) + (cols - 32 * last + 3) / 4 * (sums[last] - before(last));
  const std::size_t piece = 8 * before(tile) + col % 32 / 4 * r;
  unsigned state = 0;
  for (std::size_t i = 0; i < kStateBits; ++i) {
    const std::size_t bit = r * (4 * (row % 16) + col % 4) / 8 + i;
    const std::size_t at =
        bit < 8 * r ? 8 * (block * block_bytes + piece) + bit : 8 * (next * block_bytes + piece) + bit - 8 * r;
    state |= (codes[at / 8] >> (at % 8) & 1u) << i;
  }
  return state;
}

/// And its level at r eighths of a bit.
int trellisLevel(unsigned state, std::size_t r) {
  const auto& c = detail::kTrellis14[r - detail::kLeastTrellisRate8];
  const unsigned count = 1u << c.index_bits;
  unsigned x = state & (count - 1);
  for (int bit = 0; bit < 14 - c.index_bits; ++bit) {
    if ((state >> (c.index_bits + bit) & 1u) != 0) x ^= c.mix[bit];
  }
  return x < count / 2 ? c.half_levels[x] : -c.half_levels[count - 1 - x];
}

/// A record against the library's layout, whose sums of rates are `sums`; its states are those of the rows from one on.
template <class C>
void checkTrellis(const Record& record, const std::vector<std::size_t>& sums) {
  const Index m = numberIn(record, "rows"), n = numberIn(record, "cols");
  const Index first = record.contains("from_row") ? numberIn(record, "from_row") : 0;
  const std::vector<std::uint32_t> stored(sums.begin(), sums.end());
  const detail::TileLayout<C> layout(m, codesInRow<C>(n), stored.data());
  Bytes bytes(static_cast<std::size_t>(layout.bytes()));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(reader::bits(seedIn(record), i) & 255);
  }
  if (record.contains("bytes")) {
    EXPECT_EQ(bytes, bytesOf(record.at("bytes")));
  }
  const std::vector<std::string> states = words(record.at("states")), levels = words(record.at("levels"));
  ASSERT_EQ(static_cast<Index>(states.size()), (m - first) * n);
  ASSERT_EQ(levels.size(), states.size());
  for (std::size_t i = 0; i < states.size(); ++i) {
    const Index row = first + static_cast<Index>(i) / n, col = static_cast<Index>(i) % n;
    const auto tile = static_cast<std::size_t>(col / 32), r = sums[tile] - (tile == 0 ? 0 : sums[tile - 1]);
    const unsigned state = trellisState(bytes, static_cast<std::size_t>(m), static_cast<std::size_t>(n), sums,
                                        static_cast<std::size_t>(row), static_cast<std::size_t>(col));
    EXPECT_EQ(std::to_string(state), states[i]) << i;
    EXPECT_EQ(layout.state(bytes.data(), row / 16, row % 16, col), static_cast<int>(state)) << i;
    EXPECT_EQ(std::to_string(trellisLevel(state, r)), levels[i]) << i;
    EXPECT_EQ(C::table(static_cast<int>(r)).level(static_cast<int>(state)), trellisLevel(state, r)) << i;
  }
}

TEST(Layouts, TrellisCodes) {
  int plain = 0, mixed = 0;
  for (const Record& record : records("trellis")) {
    if (record.at("format") == "Trellis<2>") {
      ++plain;
      checkTrellis<Trellis<2>>(record, {16});
    } else {
      ++mixed;
      ASSERT_EQ(record.at("format"), "TrellisMixed");
      std::vector<std::size_t> sums;
      for (const std::string& sum : words(record.at("rate_sums"))) sums.push_back(std::stoul(sum));
      checkTrellis<TrellisMixed>(record, sums);
    }
  }
  EXPECT_EQ(plain, 1);
  EXPECT_EQ(mixed, 1);
}

/// The formula for bytes of all widths, shapes with edges in every direction included.
template <class C>
void checkFormula() {
  for (const Index rows : {1, 15, 16, 17, 33}) {
    for (const Index count : {1, 3, 4, 5, 31, 32, 33, 41, 66}) {
      const detail::TileLayout<C> layout(rows, count);
      CodeMatrix<C> codes(rows, count);
      for (Index i = 0; i < codes.size(); ++i) {
        codes.data()[i] = static_cast<typename C::Code>(reader::bits(9, static_cast<std::uint64_t>(i)) &
                                                        ((std::uint64_t{1} << C::kBits) - 1));
      }
      Bytes bytes(static_cast<std::size_t>(layout.bytes()));
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(codes.row(16 * block).data(), count, block, bytes.data());
      }
      const auto m = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(count);
      ASSERT_EQ(bytes.size(), m * reader::rowBytes(k, C::kBits));
      for (Index i = 0; i < codes.size(); ++i) {
        const auto row = static_cast<std::size_t>(i / count), column = static_cast<std::size_t>(i % count);
        ASSERT_EQ(reader::codeAt(bytes, m, k, C::kBits, C::kDim, row, column), codes.data()[i])
            << C::name() << ", " << rows << " x " << count << ", code " << i;
      }
    }
  }
}

TEST(Layouts, TheFormulaOfTilesHoldsForEveryWidth) {
  checkFormula<Asymmetric<1>>();
  checkFormula<Asymmetric<2>>();
  checkFormula<Asymmetric<3>>();
  checkFormula<Asymmetric<4>>();
  checkFormula<Asymmetric<5>>();
  checkFormula<Asymmetric<6>>();
  checkFormula<Asymmetric<7>>();
  checkFormula<Asymmetric<8>>();
  checkFormula<Trits5>();
  checkFormula<E8P>();
  checkFormula<E8PRvq3>();
  checkFormula<E8PRvq4>();
}

TEST(Layouts, Matrices) {
  for (const Record& record : records("matrix")) {
    const std::string& format = record.at("format");
    SCOPED_TRACE(format);
    const bool inner = format.find("<PerChannel<Symmetric") != std::string::npos || format.starts_with("Outliers");
    const std::vector<float> expected = floats(record.at("values"));
    const float largest = std::abs(*std::max_element(expected.begin(), expected.end(),
                                                     [](float a, float b) { return std::abs(a) < std::abs(b); }));
    // What wrappers add may be fused or ordered as a compiler likes.
    const double tolerance = inner ? 1e-6 * static_cast<double>(largest) : 0;

    const auto m = static_cast<std::size_t>(numberIn(record, "rows")),
               n = static_cast<std::size_t>(numberIn(record, "cols"));
    const reader::Doubles read = reader::matrix(format, arraysOf(record), m, n);
    ASSERT_EQ(read.size(), expected.size());
    for (std::size_t i = 0; i < read.size(); ++i) EXPECT_NEAR(read[i], expected[i], tolerance) << "number " << i;

    withFormat<PerChannel<Symmetric<4>>, Grouped<Asymmetric<3>, 2>, E8P, PerChannel<Trits5>,
               PerTensor<NormalFloat4, BFloat16>, Float16, Incoherent<PerChannel<Symmetric<8>>>,
               ChannelScaled<PerChannel<Symmetric<4>>>, Outliers<Grouped<Asymmetric<2>, 4>, 400>,
               MixedColumns<PerChannel<Symmetric<8>>>, ActOrder<Grouped<Symmetric<4>, 2>>,
               LowRank<PerChannel<Symmetric<2>>, 1>, LowRankFirst<PerChannel<Symmetric<2>>, 1, std::int8_t>>(
        format, [&]<class F>(std::type_identity<F>) { checkMatrix<F>(record, tolerance); });
  }
}

TEST(Layouts, OutliersOfALongRow) {
  for (const Record& record : records("outliers of a long row")) {
    const auto n = static_cast<std::size_t>(numberIn(record, "cols"));
    const auto expected = words(record.at("entries"));
    const auto entries = reader::outliers(arraysOf(record), 8, n, 0);
    ASSERT_EQ(entries.size(), expected.size());
    RowMatrixXf w = RowMatrixXf::Zero(1, static_cast<Index>(n));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto equals = expected[i].find('=');
      EXPECT_EQ(entries[i].column, std::stoul(expected[i]));
      EXPECT_EQ(entries[i].value, std::stod(expected[i].substr(equals + 1)));
      w(0, static_cast<Index>(entries[i].column)) = std::stof(expected[i].substr(equals + 1));
    }
    const auto q = quantize<Outliers<PerTensor<Binary>, 8>>(w);
    const reader::Arrays arrays = arraysOf(record);
    q.packed().visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name.starts_with("inner.")) return;
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(values.data());
      EXPECT_EQ(Bytes(bytes, bytes + values.size_bytes()), arrays.at(std::string(name)).bytes) << name;
    });
  }
}

template <class C>
void checkPoints(const std::string& kind, const std::string& name) {
  for (const Record& record : records(kind)) {
    const auto code = static_cast<typename C::Code>(std::stoul(record.at("code"), nullptr, 16));
    const std::vector<float> expected = floats(record.at("values"));
    float library[C::kDim];
    C::decode(code, library);
    const reader::Doubles read = kind == "e81b" ? reader::e81b(code) : reader::point(name, code);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_FLOAT_EQ(library[i], expected[i]) << kind << ' ' << record.at("code");
      EXPECT_FLOAT_EQ(static_cast<float>(read[i]), expected[i]) << kind << ' ' << record.at("code");
    }
  }
}

TEST(Layouts, VectorCodebooks) {
  checkPoints<E8P>("e8p", "E8P");
  checkPoints<E81B>("e81b", "E81B");
  checkPoints<E8PRvq3>("E8PRvq3", "E8PRvq3");
  checkPoints<E8PRvq4>("E8PRvq4", "E8PRvq4");
  checkPoints<Trits5>("trits5", "Trits5");
}

TEST(Layouts, EveryPointOfEveryCodebook) {
  float y[8];
  for (unsigned code = 0; code < 65536; code += 31) {  // every pattern, with eight or nine low bytes
    E8P::decode(static_cast<E8P::Code>(code), y);
    const reader::Doubles point = reader::e8p(code);
    for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(static_cast<double>(y[i]), point[i]) << code;
  }
  for (unsigned code = 0; code < 256; ++code) {
    E81B::decode(static_cast<E81B::Code>(code), y);
    const reader::Doubles point = reader::e81b(code);
    for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(static_cast<double>(y[i]), point[i]) << code;
    Trits5::decode(static_cast<Trits5::Code>(code), y);
    for (std::size_t i = 0; i < 5; ++i) ASSERT_EQ(static_cast<double>(y[i]), reader::point("Trits5", code)[i]) << code;
  }
  for (unsigned q = 0; q < 16; ++q) {
    const auto code = static_cast<std::uint8_t>(q);
    EXPECT_EQ(NormalFloat4::level(code), static_cast<float>(reader::point("NormalFloat4", q)[0]));
  }
}

TEST(Layouts, HadamardMatrices) {
  for (const Record& record : records("signs of a Hadamard matrix")) {
    const Index order = numberIn(record, "order");
    const auto size = static_cast<std::size_t>(order);
    const SignMatrix library = hadamardMatrix(order);
    const reader::Table read = reader::signTable({reader::construction(size), size});
    for (const auto& [key, signs] : record) {
      if (!key.starts_with("row ")) continue;
      const std::size_t row = std::stoul(key.substr(4));
      for (std::size_t j = 0; j < size; ++j) {
        EXPECT_EQ(library(static_cast<Index>(row), static_cast<Index>(j)), signs[j] == '-' ? -1 : 1) << order;
        EXPECT_EQ(read[row][j], signs[j] == '-' ? -1 : 1) << order << ", " << row << ", " << j;
      }
    }
  }
  for (const Index order : {12, 20, 28, 36, 52, 92, 100, 116, 148, 156, 172}) {
    const auto size = static_cast<std::size_t>(order);
    const SignMatrix library = hadamardMatrix(order);
    const reader::Table read = reader::signTable({reader::construction(size), size});
    for (Index i = 0; i < library.size(); ++i) {
      ASSERT_EQ(library.data()[i], read[static_cast<std::size_t>(i / order)][static_cast<std::size_t>(i % order)])
          << order;
    }
  }
}

std::string planText(const std::vector<reader::Factor>& factors, std::size_t sylvester) {
  std::string text;
  for (const auto& [kind, order] : factors) text += (text.empty() ? "" : " x ") + kind + " " + std::to_string(order);
  if (sylvester == 1 && !factors.empty()) return text;
  return text + (text.empty() ? "" : " x ") + "sylvester " + std::to_string(sylvester);
}

std::string libraryPlan(Index n) {
  const HadamardPlan plan = hadamardPlan(n);
  std::vector<reader::Factor> factors;
  for (const HadamardFactor& factor : plan.factors) {
    constexpr const char* kNames[] = {"paley1", "paley2", "williamson", "hartley"};
    factors.push_back({kNames[static_cast<int>(factor.construction)], static_cast<std::size_t>(factor.order)});
  }
  return planText(factors, std::size_t{1} << plan.log2Sylvester);
}

std::string readerPlan(Index n) {
  const reader::Plan plan = reader::Planner(static_cast<std::size_t>(n)).best();
  return planText(plan.factors, plan.sylvester);
}

TEST(Layouts, PlansOfHadamardTransforms) {
  for (const Record& record : records("plans")) {
    for (const auto& [key, plan] : record) {
      if (key == "kind") continue;
      EXPECT_EQ(libraryPlan(std::stol(key)), plan) << key;
      EXPECT_EQ(readerPlan(std::stol(key)), plan) << key;
    }
  }
  for (Index n = 1; n <= 600; ++n) EXPECT_EQ(libraryPlan(n), readerPlan(n)) << n;
}

TEST(Layouts, Transforms) {
  for (const Record& record : records("transform")) {
    std::vector<float> x = floats(record.at("x"));
    const std::vector<float> y = floats(record.at("y"));
    const reader::Table q = reader::orthonormal(x.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < x.size(); ++j) sum += q[i][j] * static_cast<double>(x[j]);
      EXPECT_NEAR(sum, y[i], 2e-6) << x.size();
    }
    Eigen::Map<Eigen::VectorXf> map(x.data(), static_cast<Index>(x.size()));
    hadamard(map);
    EXPECT_EQ(x, y);
  }
}

TEST(Layouts, CodedBytes) {
  for (const Record& record : records("rans")) {
    const Bytes bytes = bytesOf(record.at("bytes")), coded = bytesOf(record.at("archive"));
    EXPECT_EQ(encodeBytes(bytes), coded);
    EXPECT_EQ(reader::unrans(coded), bytes);
  }
}

TEST(Layouts, Archives) {
  for (const Record& record : records("archive")) {
    ASSERT_EQ(record.at("format"), "PerChannel<Symmetric<4>>");
    const Bytes bytes = bytesOf(record.at("bytes"));
    const auto q = unarchive<PerChannel<Symmetric<4>>>(bytes);
    EXPECT_EQ(archive(q), bytes);

    EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 4), "gAR2");
    std::size_t at = 4;
    const auto take = [&](std::size_t size) {
      const std::uint64_t value = reader::number(bytes, at, size);
      at += size;
      return value;
    };
    const auto text = [&] {
      const auto size = static_cast<std::size_t>(take(2));
      at += size;
      return std::string(bytes.begin() + static_cast<std::ptrdiff_t>(at - size),
                         bytes.begin() + static_cast<std::ptrdiff_t>(at));
    };
    EXPECT_EQ(text(), record.at("format"));
    EXPECT_EQ(take(8), 3u);
    EXPECT_EQ(take(8), 5u);
    reader::Arrays arrays;
    for (const std::string dtype : {"U8", "F16", "F32"}) {
      const std::string name = text();
      take(8);
      EXPECT_EQ(take(1), 0u);
      const auto size = static_cast<std::size_t>(take(8));
      arrays[name] = {dtype, Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                   bytes.begin() + static_cast<std::ptrdiff_t>(at + size))};
      at += size;
    }
    EXPECT_EQ(at, bytes.size());
    const reader::Doubles read = reader::matrix(record.at("format"), arrays, 3, 5);
    const RowMatrixXf library = q.dequantized();
    for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(read[i], static_cast<double>(library.data()[i]));
  }
}

}  // namespace
}  // namespace gosset::layouts_test
