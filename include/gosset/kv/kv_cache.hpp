// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kv/scores.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/stream.hpp>
#include <gosset/kv/workspace.hpp>
#include <gosset/matrix/quantize.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
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
/// of tokens that come one by one, too.
/// Sources: Liu et al., "KIVI", ICML 2024, section 3; Kang et al., "GEAR" (2024), section 3.
///
/// A copy is independent; what was moved from is an empty cache of the same shape and options. const functions may be
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
  /// Errors: std::invalid_argument as validate(shape) and validate(options) say.
  explicit KvCache(const KvShape& shape, const KvOptions& options = {})
      : shape_((validate(shape), validate(options), shape)),
        options_(options),
        keys_(shape, options.quantize),
        values_(shape, options.quantize) {}

  KvCache(const KvCache&) = default;
  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(const KvCache& other) { return *this = KvCache(other); }  // all or nothing
  KvCache& operator=(KvCache&&) noexcept = default;
  ~KvCache() = default;

  const KvShape& shape() const { return shape_; }
  const KvOptions& options() const { return options_; }

  /// Tokens held.
  Index size() const { return packedTokens() + keys_.windowTokens(); }

  /// Adds tokens: keys and values t x (kv_heads * head_dim), a token a row, any dense expressions; one token may come
  /// as a column, and none at all change nothing. Numbers are rounded to the window's floats on entry, whether the
  /// window or a block receives them. Errors: std::invalid_argument where shapes do not fit or a number is not finite
  /// or beyond the window's floats; std::bad_alloc. The cache is then as it was.
  template <class Keys, class Values>
  void append(const Eigen::DenseBase<Keys>& keys, const Eigen::DenseBase<Values>& values) {
    static_assert(DenseExpression<Keys> && DenseExpression<Values>,
                  "KvCache::append(K, V): both must hold float, double, Eigen::half or Eigen::bfloat16");
    if constexpr (Keys::ColsAtCompileTime == 1 && Values::ColsAtCompileTime == 1) {
      if (shape_.kvWidth() != 1) return append(keys.derived().transpose(), values.derived().transpose());
    }
    checkWidth("keys", keys);
    checkWidth("values", values);
    detail::require(keys.rows() == values.rows(), "KvCache::append: expected as many keys as values, got ", keys.rows(),
                    " and ", values.rows(), " tokens");
    if (keys.rows() == 0) return;
    const RowMatrixXf k = keys_.prepared("KvCache::append, keys", keys);
    const RowMatrixXf v = values_.prepared("KvCache::append, values", values);
    inBoth([&](auto& stream) { stream.reserveWindow(k.rows()); });
    const Index before = keys_.windowTokens();
    keys_.append(k);
    values_.append(v);
    if (before + k.rows() < options_.window) return;
    try {
      packWindows(options_.merge ? mergingPlan() : packingPlan());
    } catch (...) {
      inBoth([&](auto& stream) { stream.truncateWindow(before); });
      throw;
    }
  }

  /// softmax(score(scale * K q)) V for the query of the newest token; q: heads * head_dim, a row or a column. Returns
  /// heads * head_dim numbers. Errors: std::invalid_argument where the cache is empty, q has another size or is not
  /// finite, an option is out of its range, the score function is for other heads, a score is NaN, +infinity or beyond
  /// the range of float, or sums of values are; what the score function throws. The cache never changes.
  template <class Query, ScoreFunction Score = PlainScores>
  requires(Query::IsVectorAtCompileTime != 0) Eigen::VectorXf
      attend(const Eigen::DenseBase<Query>& q, const AttendOptions& options = {}, const Score& score = {})
  const {
    Eigen::VectorXf output(shape_.queryWidth());
    attendTo(q, output, options, score);
    return output;
  }

  /// The same for the queries of the newest t tokens, each of which sees itself and what came before (causal); q, and
  /// the result: t x (heads * head_dim). Errors: also where t is more than size().
  template <class Queries, ScoreFunction Score = PlainScores>
  requires(Queries::IsVectorAtCompileTime == 0) RowMatrixXf
      attend(const Eigen::DenseBase<Queries>& q, const AttendOptions& options = {}, const Score& score = {})
  const {
    RowMatrixXf output(q.rows(), shape_.queryWidth());
    attendTo(q, output, options, score);
    return output;
  }

  /// attend() into memory of yours: heads * head_dim numbers, or t rows of so many; where a score is an error they are
  /// left as they happen to be. With options.workspace a query like the one before it takes no memory; rotated heads of
  /// another length than a power of two and formats without addTransposed() excepted.
  template <class Query, ScoreFunction Score = PlainScores>
  requires(Query::IsVectorAtCompileTime !=
           0) void attendTo(const Eigen::DenseBase<Query>& q, Eigen::Ref<Eigen::VectorXf> output,
                            const AttendOptions& options = {}, const Score& score = {}) const {
    static_assert(DenseExpression<Query>,
                  "KvCache::attend(q): q must hold float, double, Eigen::half or Eigen::bfloat16");
    detail::require(q.size() == shape_.queryWidth(),
                    "KvCache::attend: expected a query of heads * head_dim = ", shape_.queryWidth(), " numbers, got ",
                    q.size());
    detail::require(output.size() == q.size(), "KvCache::attendTo: expected an output of heads * head_dim = ", q.size(),
                    " numbers, got ", output.size());
    attendAll(q.derived().reshaped(1, q.size()), options, score,
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
    detail::require(output.rows() == q.rows() && output.cols() == q.cols(), "KvCache::attendTo: expected an output of ",
                    q.rows(), " x ", q.cols(), ", got ", output.rows(), " x ", output.cols());
    attendAll(q, options, score, output);
  }

  /// What the cache holds, as attention sees it: size() x (kv_heads * head_dim).
  RowMatrixXf keys() const { return dequantized(keys_); }
  RowMatrixXf values() const { return dequantized(values_); }

  /// Forgets all tokens but the first n. What stays keeps its values; a block that is cut keeps its bytes.
  /// Errors: std::invalid_argument where n is negative or more than size().
  void truncate(Index n) {
    detail::require(n >= 0 && n <= size(), "KvCache::truncate: expected a size between 0 and ", size(), ", got ", n);
    const Index in_window = std::max<Index>(n - packedTokens(), 0);
    inBoth([&](auto& stream) { stream.truncateWindow(in_window); });
    while (!ends_.empty() && begin(blocks() - 1) >= n) ends_.pop_back();
    inBoth([&](auto& stream) { stream.truncateBlocks(blocks()); });
    if (packedTokens() > n) ends_.back() = n;
  }

  void clear() { truncate(0); }

  /// Bytes kept: every stored array of every block, the window's tokens, seeds. Room that is set aside for the rest of
  /// the window, and some hundred bytes of bookkeeping a block and KV head, are not counted.
  Index bytes() const { return keys_.bytes() + values_.bytes(); }

  /// 8 * bytes() over the numbers held, keys and values; 0 for an empty cache.
  double bitsPerElement() const {
    const auto numbers = 2.0 * static_cast<double>(size()) * static_cast<double>(shape_.kvWidth());
    return numbers > 0 ? 8.0 * static_cast<double>(bytes()) / numbers : 0.0;
  }

  /// A cache as storage, for files: contents() and the arrays say all that it holds.
  KvContents contents() const {
    KvContents contents{.ends = ends_, .staged = keys_.stagedBlocks(), .window = keys_.windowTokens()};
    for (Index block = 0; block < blocks(); ++block) contents.stored.push_back(keys_.storedTokens(block));
    return contents;
  }
  /// One whose arrays have the lengths for these contents, all zero.
  static KvCache shaped(const KvShape& shape, const KvOptions& options, const KvContents& contents) {
    KvCache cache(shape, options);
    cache.keys_.reshape(contents.stored, contents.staged, contents.window);
    cache.values_.reshape(contents.stored, contents.staged, contents.window);
    cache.ends_ = contents.ends;
    return cache;
  }
  /// Bytes that a block of so many tokens takes at the least.
  static double leastBytes(const KvShape& shape, Index tokens) {
    return decltype(keys_)::leastBytes(shape, tokens) + decltype(values_)::leastBytes(shape, tokens);
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
    return a.shape_ == b.shape_ && a.ends_ == b.ends_ && a.size() == b.size() && a.keys_.image() == b.keys_.image() &&
           a.values_.image() == b.values_.image();
  }

  /// "keys.codes" and the like: block after block, head after head, then the window.
  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visitWithin("keys.", self.keys_, visit);
    visitWithin("values.", self.values_, visit);
  }

 private:
  template <class Derived>
  void checkWidth(const char* name, const Eigen::DenseBase<Derived>& tokens) const {
    detail::require(tokens.cols() == shape_.kvWidth(), "KvCache::append: expected ", name,
                    " of kv_heads * head_dim = ", shape_.kvWidth(), " columns, got ", tokens.rows(), " x ",
                    tokens.cols());
  }

  Index blocks() const { return static_cast<Index>(ends_.size()); }
  Index begin(Index block) const { return block == 0 ? 0 : ends_[static_cast<std::size_t>(block - 1)]; }
  Index end(Index block) const { return ends_[static_cast<std::size_t>(block)]; }
  Index packedTokens() const { return ends_.empty() ? 0 : ends_.back(); }

  /// What fills whole windows, in as few blocks as longest_block allows, of nearly equal length.
  detail::KvPlan packingPlan() const {
    const Index windows = keys_.windowTokens() / options_.window;
    const Index count = ceilDiv(windows, detail::tokensInLongestBlock(options_) / options_.window);
    detail::KvPlan plan{.room = options_.window};
    for (Index i = 0; i < count; ++i) {
      plan.packed.push_back((windows * (i + 1) / count - windows * i / count) * options_.window);
    }
    return plan;
  }

  /// The longest blocks that what is staged and the window can fill; what fills whole windows then is staged.
  detail::KvPlan mergingPlan() const {
    const Index tokens = keys_.windowTokens(), longest = detail::tokensInLongestBlock(options_);
    detail::KvPlan plan{.room = options_.window};
    const Index missing = longest - (packedTokens() - begin(blocks() - keys_.stagedBlocks()));
    plan.merges = missing <= tokens;
    if (plan.merges) plan.filling = missing;
    plan.packed.assign(static_cast<std::size_t>((tokens - plan.filling) / longest), longest);
    plan.staged = (tokens - plan.tokens()) / options_.window * options_.window;
    return plan;
  }

  /// All that can fail comes first.
  void packWindows(const detail::KvPlan& plan) {
    std::vector<Index> ends(ends_.begin(), ends_.end() - (plan.merges ? keys_.stagedBlocks() : 0)), staged;
    for (Index block = blocks() - keys_.stagedBlocks(); block < blocks(); ++block) {
      staged.push_back(end(block) - begin(block));
    }
    Index last = packedTokens();
    const auto add = [&](Index tokens) { ends.push_back(last += tokens); };
    if (plan.merges) add(plan.filling);
    for (const Index tokens : plan.packed) add(tokens);
    if (plan.staged > 0) add(plan.staged);
    auto keys = keys_.prepare(plan, staged);
    auto values = values_.prepare(plan, staged);
    keys_.commit(std::move(keys));
    values_.commit(std::move(values));
    ends_.swap(ends);
  }

  template <class Change>
  void inBoth(const Change& change) {
    change(keys_);
    change(values_);
  }

  template <class Stream>
  RowMatrixXf dequantized(const Stream& stream) const {
    RowMatrixXf w(size(), shape_.kvWidth());
    parallelFor(blocks(), options_.window * shape_.kvWidth(), [&](Index block) {
      stream.dequantizeBlock(block, w.middleRows(begin(block), end(block) - begin(block)));
    });
    stream.dequantizeWindow(w.bottomRows(stream.windowTokens()));
    stream.rotateBack(w);
    return w;
  }

  template <class Queries, class Score>
  void attendAll(const Queries& queries, const AttendOptions& options, const Score& score,
                 Eigen::Ref<RowMatrixXf> output) const {
    validate(options);
    if constexpr (requires { score.checkHeads(shape_.heads); }) score.checkHeads(shape_.heads);
    detail::require(size() > 0, "KvCache::attend: the cache is empty");
    detail::require(queries.rows() <= size(), "KvCache::attend: expected at most one query a token held, ", size(),
                    ", got ", queries.rows());
    if (queries.rows() == 0) return;
    AttendWorkspace own;
    AttendWorkspace& workspace = options.workspace != nullptr ? *options.workspace : own;
    RowMatrixXf& q = workspace.queries_;
    detail::toFiniteFloats("KvCache::attend", queries, q);
    const int exponent = scaleQueries(options, q);

    const Index chunks = ceilDiv(q.rows(), kQueries), tasks = shape_.kv_heads * chunks;
    const Index parts = std::min<Index>(tasks, Eigen::nbThreads());
    workspace.parts_.resize(std::max(workspace.parts_.size(), static_cast<std::size_t>(parts)));
    const Index work = size() * shape_.head_dim * shape_.headsInGroup() * ceilDiv(tasks, parts);
    parallelFor(parts, work, [&](Index i) {
      Part& part = workspace.parts_[static_cast<std::size_t>(i)];
      part.bad.reset();
      for (Index task = tasks * i / parts; task < tasks * (i + 1) / parts; ++task) {
        attendHead(task / chunks, task % chunks * kQueries, options, score, q, exponent, part, output);
      }
    });
    for (Index i = 0; i < parts; ++i) {
      const auto& bad = workspace.parts_[static_cast<std::size_t>(i)].bad;
      if (bad) refuse(*bad);
    }
    values_.rotateBack(output);
    for (Index i = 0; i < output.rows(); ++i) {
      for (Index head = 0; head < shape_.heads; ++head) {
        if (detail::allFinite(&output(i, head * shape_.head_dim), shape_.head_dim)) continue;
        refuse(
            {"values whose sums are within the range of float, got some beyond it", head, size() - output.rows() + i});
      }
    }
  }

  [[noreturn]] static void refuse(const AttendWorkspace::BadQuery& bad) {
    detail::invalidArgument("KvCache::attend: expected ", bad.expected, " for head ", bad.head,
                            " and the query of token ", bad.query);
  }

  /// Queries in the basis of the keys, scaled such that their products with these are scores / 2^exponent: 0, unless
  /// sums on the way to a score could leave the range of float. Returns the exponent.
  int scaleQueries(const AttendOptions& options, Eigen::Ref<RowMatrixXf> q) const {
    constexpr double kLargest = 0x1p40;
    const float scale = options.scale ? *options.scale : 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    const double most = static_cast<double>(q.cwiseAbs().maxCoeff()) * std::max(1., std::abs(double{scale}));
    if (most <= kLargest) {
      keys_.rotate(q);
      q *= scale;
      return 0;
    }
    const int exponent = std::ilogb(most / kLargest);
    q = (q.cast<double>() * std::ldexp(double{scale}, -exponent)).cast<float>();
    keys_.rotate(q);
    return exponent;
  }

  using Part = AttendWorkspace::Part;
  static constexpr Index kQueries = 64;  ///< at a time

  /// A stretch of the cache, as one step of attention sees it.
  struct Stretch {
    Index begin;   ///< position of its first token
    Index tokens;  ///< that count
    Index stored;  ///< as many as scores have to be made for, cut ones included
  };

  /// Scores of a query from their products with it; false where one is beyond float, as queries, keys of plain floats
  /// or a file's units may have it.
  static bool toScores(int exponent, float* scores, Index count) {
    for (Index i = 0; exponent != 0 && i < count; ++i) {
      scores[i] = static_cast<float>(std::ldexp(double{scores[i]}, exponent));
    }
    return detail::allFinite(scores, count);
  }

  /// kQueries queries from `first` on, those of all heads that share a KV head.
  template <class Score>
  void attendHead(Index kv_head, Index first, const AttendOptions& options, const Score& score, const RowMatrixXf& q,
                  int exponent, Part& part, Eigen::Ref<RowMatrixXf> output) const {
    const Index group = shape_.headsInGroup(), dim = shape_.head_dim, count = std::min(kQueries, q.rows() - first);
    const Index position = size() - q.rows() + first;  // of the first query
    Eigen::MatrixXf& x = part.x;
    x.resize(dim, count * group);
    const auto place = [&](Index i) { return (kv_head * group + i % group) * dim; };  // in the row first + i / group
    for (Index i = 0; i < x.cols(); ++i) x.col(i) = q.row(first + i / group).segment(place(i), dim).transpose();
    detail::OnlineSoftmax& softmax = part.softmax;
    softmax.reset(dim, x.cols());
    const auto isSeen = [&](Index from, Index to) {
      return from < position + count && position - to < options.sliding_window - 1;
    };
    const auto weigh = [&](const Stretch& stretch, Eigen::Map<Eigen::MatrixXf> scores) {
      for (Index i = 0; i < x.cols(); ++i) {
        const Index head = kv_head * group + i % group, query = position + i / group;
        if (!weighStretch(stretch, query, head, i, options, score, exponent, scores.col(i).data(), softmax)) {
          part.report("scores within the range of float, got one beyond it", head, query);
        }
      }
    };
    for (Index block = 0; block < blocks(); ++block) {
      if (!isSeen(begin(block), end(block))) continue;
      const Index stored = keys_.storedTokens(block);
      auto scores = part.scoresOf(stored);
      scores.setZero();
      keys_.addProduct(block, kv_head, x, scores);
      weigh({begin(block), end(block) - begin(block), stored}, scores);
      values_.addProduct(block, kv_head, scores, softmax.output());
    }
    const Index window = keys_.windowTokens();
    if (window > 0 && isSeen(packedTokens(), size())) {
      auto scores = part.scoresOf(window);
      keys_.addWindowProduct(kv_head, x, scores);
      weigh({packedTokens(), window, window}, scores);
      values_.addWindowProduct(kv_head, scores, softmax.output());
    }
    for (Index i = 0; i < x.cols(); ++i) {
      const Index head = kv_head * group + i % group, query = position + i / group;
      auto result = output.row(first + i / group).segment(place(i), dim);
      result = softmax.result(i).transpose();
      if (!softmax.exists(i)) part.report("scores that are numbers or -infinity, got NaN or +infinity", head, query);
    }
  }

  /// Scores of one query and head, / 2^exponent, become weights; those it does not see become 0. False where one is
  /// beyond float.
  template <class Score>
  static bool weighStretch(const Stretch& stretch, Index query, Index head, Index column, const AttendOptions& options,
                           const Score& score, int exponent, float* scores, detail::OnlineSoftmax& softmax) {
    const Index oldest = options.sliding_window > query ? 0 : query + 1 - options.sliding_window;
    const Index from = std::clamp<Index>(oldest - stretch.begin, 0, stretch.tokens);
    const Index to = std::clamp<Index>(query + 1 - stretch.begin, from, stretch.tokens);
    const bool in_range = toScores(exponent, scores + from, to - from);
    if constexpr (!std::is_same_v<Score, PlainScores>) {
      for (Index i = from; i < to; ++i)
        scores[i] = static_cast<float>(score(scores[i], head, query, stretch.begin + i));
    }
    std::fill(scores, scores + from, 0.f);
    softmax.weigh(column, scores + from, to - from);
    std::fill(scores + to, scores + stretch.stored, 0.f);
    return in_range;
  }

  KvShape shape_;
  KvOptions options_;
  detail::KvStream<KeyFormat, detail::KvSide::kKeys> keys_;
  detail::KvStream<ValueFormat, detail::KvSide::kValues> values_;
  detail::EmptyAfterMove<std::vector<Index>> ends_;  ///< position after the last token of each block
};

}  // namespace gosset::GOSSET_ABI
