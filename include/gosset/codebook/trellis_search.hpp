// SPDX-License-Identifier: Apache-2.0
// The search for trellis codes, in a namespace for each instruction set (core/instruction_set.hpp).
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// TrellisSearch, below, with the vectors of a set.
class SearchInSet final : public WalkSearch {
 public:
  /// For chains of at most `longest` numbers.
  SearchInSet(const TrellisTable& table, Index longest)
      : table_(table),
        metrics_(static_cast<std::size_t>(table.states())),
        next_(metrics_.size()),
        starts_(static_cast<std::size_t>(longest) + 1),
        rows_(static_cast<std::size_t>(table.states() / kLanes)) {
    for (int i = 0; i < table.indices(); ++i) {
      values_[i] = static_cast<float>(table.levelOfIndex(i)) * TrellisTable::kLevelUnit;
    }
    for (int chunk = 0; chunk < table.states() / kLanes; ++chunk) {
      const int first = chunk * kLanes, index = table.index(first);
      rows_[static_cast<std::size_t>(chunk)] = {static_cast<std::uint8_t>(index % kLanes),
                                                static_cast<std::uint8_t>(index / kLanes)};
    }
    for (int turn = 0; turn < kLanes; ++turn) {
      for (int lane = 0; lane < kLanes; ++lane) turns_[turn][lane] = static_cast<std::int16_t>(lane ^ turn);
    }
  }

  void nearest(const float* x, Index count, Index chain_columns, ChainExtent extent, std::uint16_t* states) override {
    setTimes(x, count, chain_columns, extent);
    setScale();
    const Index seam = std::min<Index>(kSeam, count / 2);
    begin(-1);
    for (Index t = count - seam; t < count + seam; ++t) step(t % count);
    int at_seam = best(0, 1);
    for (Index t = seam; t-- > 0;) at_seam = before(at_seam, t);

    begin(at_seam);
    for (Index t = 0; t < count; ++t) {
      step(t);
      leaveReached(at_seam, bitsUpTo(t + 1, count));
    }
    const int common = table_.states() >> bits_[0];  // the first state keeps these bits of the last
    int state = best(at_seam % common, common);
    for (Index t = count; t-- > 0;) {
      states[count - 1 - t] = static_cast<std::uint16_t>(state);
      state = reached(at_seam, bitsUpTo(t, count), before(state, t));
    }
  }

 private:
  static constexpr int kLanes = simd::kShortLanes;
  static constexpr Index kSeam = 64;
  static constexpr std::int16_t kFloor = -31000;  ///< the least metric
  static constexpr std::int16_t kClosed = 32767;  ///< the largest
  static constexpr float kLargest = 64;           ///< beyond all levels

  /// Where the costs of kLanes neighbouring states stand: their indices are `block` * kLanes + (lane ^ turn), but for
  /// the bits above.
  struct CostRow {
    std::uint8_t turn, block;
  };

  /// 130 * 4^rate.
  static float metricScale(int rate8) {
    constexpr float kFourths[] = {1.f, 1.1892071f, 1.4142135f, 1.6817929f};  // 2^(i / 4)
    return std::ldexp(130 * kFourths[rate8 % 4], rate8 / 4);
  }

  void setTimes(const float* x, Index count, Index chain_columns, ChainExtent extent) {
    numbers_.resize(static_cast<std::size_t>(count));
    counts_.resize(static_cast<std::size_t>(count));
    bits_.resize(static_cast<std::size_t>(count));
    std::size_t bytes = 0;
    for (Index t = 0; t < count; ++t) {
      const Index n = count - 1 - t;
      const auto at = static_cast<std::size_t>(t);
      numbers_[at] = x[n] == x[n] ? std::clamp(x[n], -kLargest, kLargest) : 0.f;
      counts_[at] = extent.counts(n, chain_columns);
      bits_[at] = static_cast<std::uint8_t>(table_.newBits(n));
      starts_[at] = bytes;
      bytes += static_cast<std::size_t>(table_.states() >> bits_[at]);
    }
    if (bytes > room_) {
      origins_.reset(new std::uint8_t[bytes]);
      room_ = bytes;
    }
  }

  /// Numbers that are louder than those that the levels were made for have a coarser metric: walks far from all levels
  /// would else differ by more than it can tell.
  void setScale() {
    constexpr double kLoud = 2;  // mean square
    double squares = 0, numbers = 0;
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      if (counts_[i] == 0) continue;
      squares += static_cast<double>(numbers_[i]) * static_cast<double>(numbers_[i]);
      numbers += 1;
    }
    const bool loud = squares > kLoud * numbers;
    scale_ = metricScale(table_.rate8()) * (loud ? static_cast<float>(kLoud * numbers / squares) : 1.f);
  }

  /// All states are open, or one alone.
  void begin(int state) {
    std::fill_n(metrics_.data(), table_.states(), state < 0 ? kFloor : kClosed);
    if (state >= 0) metrics_.data()[state] = kFloor;
    least_ = kFloor;
  }

  /// New bits of the numbers before time t.
  Index bitsUpTo(Index t, Index count) const { return table_.firstBit(count) - table_.firstBit(count - t); }

  /// `state`, or where it cannot be reached from another by so many new bits, one that agrees with it in these.
  int reached(int from, Index bits, int state) const {
    if (bits >= table_.stateBits()) return state;
    return (from << bits & (table_.states() - 1)) | (state & ((1 << bits) - 1));
  }

  /// Closes all states that cannot be reached so: where numbers are far from all levels, metrics rise so much that
  /// closed states would come within their range.
  void leaveReached(int from, Index bits) {
    if (bits >= table_.stateBits()) return;
    std::int16_t* metrics = metrics_.data();
    const int first = reached(from, bits, 0), end = first + (1 << bits);
    std::fill(metrics, metrics + first, kClosed);
    std::fill(metrics + end, metrics + table_.states(), kClosed);
  }

  /// The state with the least metric among first, first + every, ..
  int best(int first, int every) {
    int best = first;
    for (int s = first; s < table_.states(); s += every) {
      if (metrics_.data()[s] < metrics_.data()[best]) best = s;
    }
    return best;
  }

  /// The state from which the best walk came to `state` at time t.
  int before(int state, Index t) const {
    const auto at = static_cast<std::size_t>(t);
    const int bits = bits_[at], kept = state >> bits;
    const int origin = origins_[starts_[at] + static_cast<std::size_t>(kept)] & ((1 << bits) - 1);
    return kept | origin << (table_.stateBits() - bits);
  }

  void step(Index t) {
    setCosts(t);
    std::uint8_t* origins = origins_.get() + starts_[static_cast<std::size_t>(t)];
    if constexpr (simd::kHasShortPermute) {
      if (turnsWhenNeeded()) return extend<true>(t, origins);
    }
    extend<false>(t, origins);
  }

  template <bool kTurn>
  void extend(Index t, std::uint8_t* origins) {
    switch (bits_[static_cast<std::size_t>(t)]) {
      case 1:
        return extend<1, kTurn>(origins);
      case 2:
        return extend<2, kTurn>(origins);
      case 3:
        return extend<3, kTurn>(origins);
      case 4:
        return extend<4, kTurn>(origins);
      case 5:
        return extend<5, kTurn>(origins);
      default:
        return extend<6, kTurn>(origins);
    }
  }

  /// Whether lanes of costs are brought into a state's order when it is reached. Else that is done beforehand, for all
  /// orders, which pays where many states have each.
  bool turnsWhenNeeded() const {
    constexpr int kFew = 2;
    return simd::kHasShortPermute && table_.states() <= kFew * kLanes * table_.indices();
  }

  /// costs_[turn][block]: what the number at time t costs with each level, in all orders of lanes that states need, or
  /// in the first. Metrics are brought back to kFloor on the way, by what the least of them rose in the step before.
  void setCosts(Index t) {
    drift_ = least_ - kFloor;
    const bool turned = !turnsWhenNeeded();
    alignas(64) std::int16_t unturned[256];
    std::int16_t* costs = turned ? unturned : costs_[0][0];
    if (counts_[static_cast<std::size_t>(t)] != 0) {
      errors(numbers_[static_cast<std::size_t>(t)], costs);
    } else {
      std::fill_n(costs, table_.indices(), static_cast<std::int16_t>(-drift_));
    }
    for (int block = 0; turned && block < table_.indices() / kLanes; ++block) {
      turnLanes<0>(simd::load<simd::Shorts>(costs + block * kLanes), 0, block);
    }
  }

  /// The squared error of each level less the least of them, in units of the metric, and less the drift.
  void errors(float x, std::int16_t* costs) const {
    using simd::Floats;
    constexpr float kMost = 30000, kToInteger = 0x1.8p23f;  // adding it rounds to an integer, in the lowest bits
    const int registers = table_.indices() / simd::kWordLanes;
    Floats squares[256 / simd::kWordLanes];
    auto least = simd::splat<Floats>(std::numeric_limits<float>::infinity());
    for (int i = 0; i < registers; ++i) {
      const Floats d = x - simd::load<Floats>(values_ + i * simd::kWordLanes);
      squares[i] = simd::unfused(d * d * scale_);
      least = squares[i] < least ? squares[i] : least;
    }
    const float smallest = simd::overLanes(least, kLesser);
    for (int i = 0; i < registers; ++i) {
      const Floats more = squares[i] - smallest, most = simd::splat<Floats>(kMost);
      const Floats rounded = (more < most ? more : most) + kToInteger;
      const simd::Ints integers = (simd::Ints)rounded - (std::bit_cast<std::int32_t>(kToInteger) + drift_);
      simd::store(costs + i * simd::kWordLanes,
                  __builtin_convertvector(integers, simd::Vec<std::int16_t, simd::kWordLanes>));
    }
  }

  static constexpr auto kLesser = [](auto a, auto b) __attribute__((always_inline)) { return b < a ? b : a; };

  /// costs_[turn][block] for all turns that differ from this one in bits from kBit on.
  template <int kBit>
  [[gnu::always_inline]] void turnLanes(simd::Shorts v, int turn, int block) {
    if constexpr (1 << kBit < kLanes) {
      turnLanes<kBit + 1>(v, turn, block);
      turnLanes<kBit + 1>(simd::exchange<(1 << kBit), std::int16_t, kLanes>(v), turn | 1 << kBit, block);
    } else {
      simd::store(costs_[turn][block], v);
    }
  }

  /// Takes all walks a number further, kBits bits come in. States that differ in their highest kBits bits alone pass
  /// into the same states, so the best of them is sought once.
  template <int kBits, bool kTurn>
  void extend(std::uint8_t* origins) {
    using simd::Shorts;
    constexpr int kWays = 1 << kBits;
    const int kept = table_.states() >> kBits;
    const std::int16_t* from = metrics_.data();
    std::int16_t* to = next_.data();
    const CostRow* row = rows_.data();
    const auto clear = simd::splat<Shorts>(static_cast<std::int16_t>(~(kWays - 1)));
    auto least = simd::splat<Shorts>(std::int16_t{32767});
    for (int s = 0; s < kept; s += kLanes, row += kWays, to += kLanes * kWays) {
      Shorts best = simd::load<Shorts>(from + s) & clear;
      simd::unroll<kWays - 1>([&](auto w) __attribute__((always_inline)) {
        constexpr auto kWay = static_cast<std::int16_t>(w + 1);
        best = simd::smaller(best, (simd::load<Shorts>(from + s + kWay * kept) & clear) | kWay);
      });
      least = simd::smaller(least, best);
      simd::storeLowBytes(origins + s, best);
      simd::unroll<kWays>([&](auto w) __attribute__((always_inline)) {
        const auto costs =
            kTurn ? simd::permute(simd::load<Shorts>(costs_[0][row[w].block]), simd::load<Shorts>(turns_[row[w].turn]))
                  : simd::load<Shorts>(costs_[row[w].turn][row[w].block]);
        simd::store(to + w * kLanes, simd::addSaturated(simd::spread<kBits, (w * kLanes)>(best), costs));
      });
    }
    least_ = simd::overLanes(least, kLesser) - drift_;
    metrics_.swap(next_);
  }

  const TrellisTable& table_;
  float scale_ = 0;     ///< units of a metric to a squared unit
  int least_ = kFloor;  ///< the least metric, but for what the last number cost
  int drift_ = 0;       ///< what is taken from all metrics with the next number
  AlignedVector<std::int16_t> metrics_, next_;
  std::unique_ptr<std::uint8_t[]>
      origins_;                      ///< at each time, for each state less its new bits: the bits that dropped out
  std::size_t room_ = 0;             ///< of origins_
  std::vector<std::size_t> starts_;  ///< of each time in origins_
  std::vector<float> numbers_;       ///< by time
  std::vector<std::uint8_t> counts_, bits_;  ///< by time
  std::vector<CostRow> rows_;                ///< of each kLanes states
  alignas(64) float values_[256];            ///< of each index
  alignas(64) std::int16_t costs_[kLanes][256 / kLanes][kLanes];
  alignas(64) std::int16_t turns_[kLanes][kLanes];  ///< lane ^ turn
};

inline std::unique_ptr<WalkSearch> makeSearchInSet(const TrellisTable& table, Index longest) {
  return std::make_unique<SearchInSet>(table, longest);
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_CODEBOOK_TRELLIS_SEARCH)
#define GOSSET_CODEBOOK_TRELLIS_SEARCH

#include <gosset/codebook/trellis_table.hpp>
#include <gosset/core/aligned.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

// Encoding with a trellis code: the walk whose values are nearest to given numbers, by Viterbi's algorithm (Viterbi,
// IEEE Transactions on Information Theory 13, 1967; Forney, Proceedings of the IEEE 61, 1973), in integers of 16 bits:
// the same walk on every machine.
namespace gosset::GOSSET_ABI::detail {

/// Which numbers of a chain count: those of the first `rows` rows and `cols` columns of four.
struct ChainExtent {
  Index rows, cols;

  bool counts(Index n, Index chain_columns) const { return n % chain_columns < cols && n / chain_columns < rows; }
};

/// What a search offers.
class WalkSearch {
 public:
  virtual ~WalkSearch() = default;
  virtual void nearest(const float* x, Index count, Index chain_columns, ChainExtent extent, std::uint16_t* states) = 0;
};

}  // namespace gosset::GOSSET_ABI::detail

#define GOSSET_FRAGMENTS <gosset/codebook/trellis_search.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// The search, with the memory that it works in, for walks of one table.
///
/// Walks run from the last number of a chain to the first, so that the bits of a chain rise with its numbers; `time`
/// counts along a walk. At each time every state has a metric, the squared error of the best walk that ends in it less
/// that of the best of all, in units of about 130 4^rate to a squared unit; a walk becomes worse by the error of its
/// next value. The low bits of a metric hold where the walk came from: the bits of the state before that dropped out.
///
/// A chain is a ring: its last state passes into its first. Which state lies at the seam is found by a search over some
/// numbers on both sides of it, then the best walk from that state to itself is taken (two passes, as Tseng et al.,
/// "QTIP", NeurIPS 2024, section 3.3 do).
class TrellisSearch {
 public:
  /// For chains of at most `longest` numbers.
  TrellisSearch(const TrellisTable& table, Index longest) : search_(makeSearch(table, longest)) {}

  /// states[0 .. count) become the nearest walk to x[0 .. count), a ring; only numbers that count have to be near. NaN
  /// counts as 0.
  void nearest(const float* x, Index count, Index chain_columns, ChainExtent extent, std::uint16_t* states) {
    search_->nearest(x, count, chain_columns, extent, states);
  }

 private:
  static std::unique_ptr<WalkSearch> makeSearch(const TrellisTable& table,
                                                Index longest){GOSSET_CALL_RUNNING(makeSearchInSet(table, longest))}

  std::unique_ptr<WalkSearch> search_;
};

}  // namespace gosset::GOSSET_ABI::detail

#endif
