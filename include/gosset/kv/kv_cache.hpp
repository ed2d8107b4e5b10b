// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/attention.hpp>
#include <gosset/kv/scores.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/stream.hpp>
#include <gosset/kv/timeline.hpp>
#include <gosset/kv/workspace.hpp>
#include <gosset/matrix/quantize.hpp>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// The keys and values of one attention layer, kept in formats and attended to as they are. Any Format is a format of
/// keys or values:
///
///   KvCache<Float16>                         16 bits, the baseline
///   KvCache<Kivi<2, 64>>                     KIVI
///   KvCache<Gear<2, 64, 4, 20>, Kivi<2, 64>> GEAR for the keys alone
///   KvCache<Incoherent<Kivi<4, 64>>>         rotated: queries meet keys, and outputs are summed, in the rotated basis
///
/// Tokens wait in a window of 16-bit floats (a plain float format's own type) until there are options.window of them,
/// and are then packed in one block a KV head. Its matrix is head_dim x tokens for keys, so that a group runs along
/// tokens within a channel, and tokens x head_dim for values, so that a group runs along channels within a token. A
/// prompt appended at once makes longer blocks, of up to options.longest_block tokens; options.merge makes such blocks
/// of tokens that come one by one, too. Keys and values may have heads of different widths (KvShape::value_dim); the
/// first tokens may stay in 16 bits, and old ones be forgotten (KvOptions).
/// Sources: Liu et al., "KIVI", ICML 2024, section 3; Kang et al., "GEAR" (2024), section 3.
///
/// A copy goes its own way, but shares the blocks that were packed before with the other (kv/batch.hpp): it costs no
/// more than the window. What was moved from is an empty cache of the same shape and options. const functions may be
/// called from several threads.
template <class KeyFormat, class ValueFormat = KeyFormat>
class KvCache : public VisitsFields<KvCache<KeyFormat, ValueFormat>> {
  static_assert(Format<KeyFormat> && Format<ValueFormat>,
                "KvCache<KeyFormat, ValueFormat>: each is a format that quantize<Format>(W) takes: a codebook, a "
                "codebook in PerTensor, PerChannel or Grouped, a wrapper around one of these, or a float type");
  static_assert(
      Packed<KeyFormat>::kNeeds == 0 && Packed<ValueFormat>::kNeeds == 0,
      "KvCache<KeyFormat, ValueFormat>: a cache rounds to nearest, so a format cannot be in it that takes scales "
      "or columns from its rounding, such as ChannelScaled or MixedColumns");

 public:
  static constexpr bool kOneFormat = std::is_same_v<KeyFormat, ValueFormat>;

  /// Errors: std::invalid_argument as validate(shape), validate(options) and validate(shape, options) say, and where
  /// values_in_keys meets two formats.
  explicit KvCache(const KvShape& shape, const KvOptions& options = {})
      : shape_((validate(shape), validate(options), validate(shape, options), shape)),
        options_(options),
        keys_(shape, options.quantize),
        values_({shape.heads, shape.kv_heads, shape.valueDim()}, options.quantize) {
    detail::require(!options.values_in_keys || kOneFormat, "KvOptions: values_in_keys needs one format for both, got ",
                    formatName());
  }

  KvCache(const KvCache&) = default;
  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(const KvCache& other) { return *this = KvCache(other); }  // all or nothing
  KvCache& operator=(KvCache&&) noexcept = default;
  ~KvCache() = default;

  const KvShape& shape() const { return shape_; }
  const KvOptions& options() const { return options_; }

  /// Tokens appended and not taken back, those included that were forgotten.
  Index size() const { return timeline_.windowBegin() + keys_.window().size(); }

  /// How many of them, the oldest, are forgotten. All others are held.
  Index forgotten() const { return timeline_.start() - keys_.first().size(); }

  /// Adds tokens: keys t x (kv_heads * head_dim) and values t x (kv_heads * value_dim), a token a row, any dense
  /// expressions; one token may come as a column, and none at all change nothing. Numbers are rounded to the window's
  /// floats on entry, whether the window or a block receives them. Then forgets what options().forget_beyond says.
  /// Errors: std::invalid_argument where shapes do not fit, a number is not finite or beyond the window's floats, or
  /// the options say values_in_keys; std::bad_alloc. The cache is then as it was.
  template <class Keys, class Values>
  void append(const Eigen::DenseBase<Keys>& keys, const Eigen::DenseBase<Values>& values) {
    static_assert(DenseExpression<Keys> && DenseExpression<Values>,
                  "KvCache::append(K, V): both must hold float, double, Eigen::half or Eigen::bfloat16");
    if constexpr (Keys::ColsAtCompileTime == 1 && Values::ColsAtCompileTime == 1) {
      if (shape_.kvWidth() != 1 || shape_.valueWidth() != 1) {
        return append(keys.derived().transpose(), values.derived().transpose());
      }
    }
    detail::require(!options_.values_in_keys, "KvCache::append: with values_in_keys the cache takes keys alone");
    checkWidth("keys", "head_dim", shape_.kvWidth(), keys);
    checkWidth("values", shape_.value_dim == 0 ? "head_dim" : "value_dim", shape_.valueWidth(), values);
    detail::require(keys.rows() == values.rows(), "KvCache::append: expected as many keys as values, got ", keys.rows(),
                    " and ", values.rows(), " tokens");
    if (keys.rows() == 0) return;
    const RowMatrixXf k = keys_.prepared("KvCache::append, keys", keys);
    appendPrepared(k, values_.prepared("KvCache::append, values", values));
  }

  /// The same where the options say values_in_keys. Errors: also where they do not.
  template <class Keys>
  void append(const Eigen::DenseBase<Keys>& keys) {
    static_assert(DenseExpression<Keys>,
                  "KvCache::append(K): it must hold float, double, Eigen::half or Eigen::bfloat16");
    if constexpr (Keys::ColsAtCompileTime == 1) {
      if (shape_.kvWidth() != 1) return append(keys.derived().transpose());
    }
    detail::require(options_.values_in_keys, "KvCache::append: keys without values need KvOptions::values_in_keys");
    checkWidth("keys", "head_dim", shape_.kvWidth(), keys);
    if (keys.rows() == 0) return;
    appendPrepared(keys_.prepared("KvCache::append, keys", keys), RowMatrixXf());
  }

  /// softmax(score(scale * K q)) V for the query of the newest token; q: heads * head_dim, a row or a column. Returns
  /// heads * value_dim numbers. Errors: std::invalid_argument where the cache is empty, q has another size or is not
  /// finite, an option is out of its range, the sliding window reaches what is forgotten, the score function is for
  /// other heads, a score is NaN, +infinity or beyond the range of float, or sums of values are; what the score
  /// function throws. The cache never changes.
  template <class Query, ScoreFunction Score = PlainScores>
  requires(Query::IsVectorAtCompileTime != 0) Eigen::VectorXf
      attend(const Eigen::DenseBase<Query>& q, const AttendOptions& options = {}, const Score& score = {})
  const {
    Eigen::VectorXf output(shape_.outputWidth());
    attendTo(q, output, options, score);
    return output;
  }

  /// The same for the queries of the newest t tokens, each of which sees itself and what came before (causal); q: t x
  /// (heads * head_dim), the result: t x (heads * value_dim). Errors: also where t is more than the tokens held.
  template <class Queries, ScoreFunction Score = PlainScores>
  requires(Queries::IsVectorAtCompileTime == 0) RowMatrixXf
      attend(const Eigen::DenseBase<Queries>& q, const AttendOptions& options = {}, const Score& score = {})
  const {
    RowMatrixXf output(q.rows(), shape_.outputWidth());
    attendTo(q, output, options, score);
    return output;
  }

  /// attend() into memory of yours: heads * value_dim numbers, or t rows of so many; where a score is an error they are
  /// left as they happen to be. With options.workspace a query like the one before it takes no memory; rotated heads of
  /// another length than a power of two, formats without addTransposed() and values_in_keys excepted.
  template <class Query, ScoreFunction Score = PlainScores>
  requires(Query::IsVectorAtCompileTime !=
           0) void attendTo(const Eigen::DenseBase<Query>& q, Eigen::Ref<Eigen::VectorXf> output,
                            const AttendOptions& options = {}, const Score& score = {}) const {
    static_assert(DenseExpression<Query>,
                  "KvCache::attend(q): q must hold float, double, Eigen::half or Eigen::bfloat16");
    detail::require(q.size() == shape_.queryWidth(),
                    "KvCache::attend: expected a query of heads * head_dim = ", shape_.queryWidth(), " numbers, got ",
                    q.size());
    detail::require(output.size() == shape_.outputWidth(), "KvCache::attendTo: expected an output of heads * ",
                    shape_.value_dim == 0 ? "head_dim" : "value_dim", " = ", shape_.outputWidth(), " numbers, got ",
                    output.size());
    attention().attend(q.derived().reshaped(1, q.size()), options, score,
                       Eigen::Map<RowMatrixXf>(output.data(), 1, output.size()));
  }
  template <class Queries, ScoreFunction Score = PlainScores>
  requires(Queries::IsVectorAtCompileTime ==
           0) void attendTo(const Eigen::DenseBase<Queries>& q, Eigen::Ref<RowMatrixXf> output,
                            const AttendOptions& options = {}, const Score& score = {}) const {
    static_assert(DenseExpression<Queries>,
                  "KvCache::attend(q): q must hold float, double, Eigen::half or Eigen::bfloat16");
    detail::require(q.cols() == shape_.queryWidth(),
                    "KvCache::attend: expected queries of heads * head_dim = ", shape_.queryWidth(), " columns, got ",
                    q.rows(), " x ", q.cols());
    detail::require(output.rows() == q.rows() && output.cols() == shape_.outputWidth(),
                    "KvCache::attendTo: expected an output of ", q.rows(), " x ", shape_.outputWidth(), ", got ",
                    output.rows(), " x ", output.cols());
    attention().attend(q, options, score, output);
  }

  /// What the cache holds, as attention sees it: a row for each token from number forgotten() on, kv_heads * head_dim
  /// and kv_heads * value_dim numbers.
  RowMatrixXf keys() const { return dequantized(keys_); }
  RowMatrixXf values() const {
    if (!options_.values_in_keys) return dequantized(values_);
    const RowMatrixXf k = keys();
    RowMatrixXf v(k.rows(), shape_.valueWidth());
    for (Index head = 0; head < shape_.kv_heads; ++head) {
      v.middleCols(head * shape_.valueDim(), shape_.valueDim()) =
          k.middleCols(head * shape_.head_dim, shape_.valueDim());
    }
    return v;
  }

  /// Takes back all tokens but the first n. What stays keeps its values; a block that is cut keeps its bytes.
  /// Errors: std::invalid_argument where n is negative or more than size(), or all of the first n but not 0 tokens are
  /// forgotten.
  void truncate(Index n) {
    detail::require(n >= 0 && n <= size(), "KvCache::truncate: expected a size between 0 and ", size(), ", got ", n);
    detail::require(n == 0 || n > forgotten(), "KvCache::truncate: expected 0 or more than the ", forgotten(),
                    " tokens that are forgotten (forget_beyond = ", options_.forget_beyond, "), got ", n);
    const Index in_window = std::max<Index>(n - timeline_.windowBegin(), 0);
    const Index first = std::min(n, keys_.first().size());
    timeline_.truncate(n);
    inBoth([&](auto& stream) {
      stream.window().truncate(in_window);
      stream.truncateBlocks(timeline_.blocks());
      stream.first().truncate(first);
    });
  }

  void clear() { truncate(0); }

  /// Bytes kept: every stored array of every block, shared ones included, the tokens in floats, seeds. Room that is set
  /// aside for the rest of the window, and some hundred bytes of bookkeeping a block and KV head, are not counted.
  Index bytes() const { return keys_.bytes() + (options_.values_in_keys ? 0 : values_.bytes()); }

  /// Of these, what stands in blocks that another cache has, too.
  Index sharedBytes() const {
    Index bytes = 0;
    forBlocks([&](const void*, bool shared, Index block) { bytes += shared ? block : 0; });
    return bytes;
  }

  /// visit(identity, shared, bytes) for each packed block of keys or values: an address that caches which share it have
  /// in common, whether another cache has it, too, and what it takes.
  template <class Visit>
  void forBlocks(const Visit& visit) const {
    keys_.forBlocks(visit);
    values_.forBlocks(visit);
  }

  /// 8 * bytes() over the numbers held, keys and values (with values_in_keys, keys); 0 for an empty cache.
  double bitsPerElement() const {
    const Index width = shape_.kvWidth() + (options_.values_in_keys ? 0 : shape_.valueWidth());
    const auto numbers = static_cast<double>(size() - forgotten()) * static_cast<double>(width);
    return numbers > 0 ? 8.0 * static_cast<double>(bytes()) / numbers : 0.0;
  }

  /// A cache as storage, for files: contents() and the arrays say all that it holds.
  KvContents contents() const {
    KvContents contents{.ends = timeline_.ends(),
                        .staged = keys_.stagedBlocks(),
                        .window = keys_.window().size(),
                        .first = keys_.first().size(),
                        .forgotten = forgotten()};
    for (Index block = 0; block < timeline_.blocks(); ++block) {
      contents.stored.push_back(keys_.storedTokens(block));
    }
    return contents;
  }
  /// One whose arrays have the lengths for these contents, all zero.
  static KvCache shaped(const KvShape& shape, const KvOptions& options, const KvContents& contents) {
    KvCache cache(shape, options);
    cache.keys_.reshape(contents);
    if (!options.values_in_keys) cache.values_.reshape(contents);
    cache.timeline_ = detail::KvTimeline(contents.first + contents.forgotten, contents.ends);
    return cache;
  }
  /// Bytes that a block of so many tokens takes at the least.
  static double leastBytes(const KvShape& shape, const KvOptions& options, Index tokens) {
    const double keys = decltype(keys_)::leastBytes(shape, tokens);
    if (options.values_in_keys) return keys;
    return keys + decltype(values_)::leastBytes({shape.heads, shape.kv_heads, shape.valueDim()}, tokens);
  }
  static std::string formatName() {
    return "KvCache<" + Packed<KeyFormat>::formatName() + ", " + Packed<ValueFormat>::formatName() + ">";
  }
  /// What makes no sense of what the arrays hold, which a file may get wrong: the array, a colon and what was expected.
  /// Empty where all does.
  std::string fault() const {
    if (const std::string fault = keys_.fault(); !fault.empty()) return "keys." + fault;
    const std::string fault = values_.fault();
    return fault.empty() ? fault : "values." + fault;
  }

  /// Equal in shape, in the tokens held and in every stored bit.
  friend bool operator==(const KvCache& a, const KvCache& b) {
    return a.shape_ == b.shape_ && a.options_.values_in_keys == b.options_.values_in_keys &&
           a.timeline_ == b.timeline_ && a.size() == b.size() && a.forgotten() == b.forgotten() &&
           a.keys_.image() == b.keys_.image() && a.values_.image() == b.values_.image();
  }

  /// "keys.codes" and the like: block after block, head after head, then the tokens in floats.
  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visitWithin("keys.", self.keys_, visit);
    visitWithin("values.", self.values_, visit);
  }

 private:
  using Keys = detail::KvStream<KeyFormat, detail::KvSide::kKeys>;
  using Values = detail::KvStream<ValueFormat, detail::KvSide::kValues>;

  template <class Derived>
  void checkWidth(const char* name, const char* dim, Index width, const Eigen::DenseBase<Derived>& tokens) const {
    detail::require(tokens.cols() == width, "KvCache::append: expected ", name, " of kv_heads * ", dim, " = ", width,
                    " columns, got ", tokens.rows(), " x ", tokens.cols());
  }

  /// Tokens in the basis of the blocks; no values where they are in the keys.
  void appendPrepared(const RowMatrixXf& k, const RowMatrixXf& v) {
    const Index before = size(), in_first = keys_.first().size(), in_window = keys_.window().size();
    const Index kept = std::min(options_.keep_first - std::min(in_first, options_.keep_first), k.rows());
    const auto add = [&](auto& stream, const RowMatrixXf& w) {
      stream.first().append(w.topRows(kept));
      stream.window().append(w.bottomRows(w.rows() - kept));
    };
    inBoth([&](auto& stream) {
      stream.first().reserveMore(kept);
      stream.window().reserveMore(k.rows() - kept);
    });
    timeline_.addFirst(kept);
    add(keys_, k);
    if (!options_.values_in_keys) add(values_, v);
    if (keys_.window().size() >= options_.window) {
      try {
        packWindows();
      } catch (...) {
        timeline_.addFirst(-kept);
        inBoth([&](auto& stream) {
          stream.first().truncate(in_first);
          stream.window().truncate(in_window);
        });
        throw;
      }
    }
    if (options_.forget_beyond > 0) forgetBefore(before - options_.forget_beyond);
  }

  void forgetBefore(Index position) noexcept {
    const Index blocks = timeline_.blocksBefore(position);
    timeline_.dropOldest(blocks);
    inBoth([&](auto& stream) { stream.dropOldest(blocks); });
  }

  /// All that can fail comes first.
  void packWindows() {
    const Index staged = keys_.stagedBlocks(), tokens = keys_.window().size();
    const detail::KvPlan plan = options_.merge ? timeline_.mergingPlan(options_, staged, tokens)
                                               : detail::KvTimeline::packingPlan(options_, tokens);
    const std::vector<Index> lengths = timeline_.lengthsOfNewest(staged);
    std::vector<Index> ends = timeline_.endsAfter(plan, staged);
    auto keys = keys_.prepare(plan, lengths);
    if (!options_.values_in_keys) values_.commit(values_.prepare(plan, lengths));
    keys_.commit(std::move(keys));
    timeline_.swapEnds(ends);
  }

  template <class Change>
  void inBoth(const Change& change) {
    change(keys_);
    if (!options_.values_in_keys) change(values_);
  }

  template <class, class>
  friend class detail::KvBatchAttention;
  detail::KvAttention<Keys, Values> attention() const { return {shape_, options_, timeline_, keys_, values_}; }

  template <class Stream>
  RowMatrixXf dequantized(const Stream& stream) const {
    const Index from = forgotten(), first = stream.first().size();
    RowMatrixXf w(size() - from, stream.width());
    stream.first().dequantize(w.topRows(first));
    parallelFor(timeline_.blocks(), options_.window * shape_.kvWidth(), [&](Index block) {
      const Index begin = timeline_.begin(block);
      stream.dequantizeBlock(block, w.middleRows(begin - from, timeline_.end(block) - begin));
    });
    stream.window().dequantize(w.bottomRows(stream.window().size()));
    stream.rotateBack(w);
    return w;
  }

  KvShape shape_;
  KvOptions options_;
  Keys keys_;
  Values values_;  ///< empty with values_in_keys
  detail::KvTimeline timeline_;
};

}  // namespace gosset::GOSSET_ABI
