// SPDX-License-Identifier: Apache-2.0
#include "recipe.hpp"

#include "check.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <mutex>
#include <set>
#include <string_view>

namespace llama {

namespace {

class RecipeReader {
 public:
  explicit RecipeReader(const std::string& source) : source_(source) {}

  Recipe read(const YAML::Node& root) const {
    expectKeys(root, {"seed", "rules"});
    Recipe recipe;
    if (root["seed"]) recipe.seed = number<std::uint64_t>(root["seed"], "seed", "a whole number of at least 0");
    const YAML::Node rules = root["rules"];
    if (!rules) failAt(root, "\"rules\" is missing");
    if (!rules.IsSequence() || rules.size() == 0) failAt(rules, "\"rules\": a list of rules expected");
    for (const YAML::Node& rule : rules) recipe.rules.push_back(readRule(rule));
    return recipe;
  }

 private:
  template <class... Parts>
  [[noreturn]] void failAt(const YAML::Node& node, const Parts&... parts) const {
    fail(source_, ", line ", node.Mark().line + 1, ": ", parts...);
  }

  void expectKeys(const YAML::Node& node, const std::set<std::string>& known) const {
    if (!node.IsMap()) failAt(node, "keys and their values expected");
    std::string all;
    for (const std::string& key : known) all += (all.empty() ? "" : ", ") + key;
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const auto key = entry.first.as<std::string>();
      if (!known.contains(key)) failAt(entry.first, "the key \"", key, "\" is none of ", all);
      if (!seen.insert(key).second) failAt(entry.first, "the key \"", key, "\" is there twice");
    }
  }

  [[noreturn]] void refuse(const YAML::Node& node, const char* key, const char* expected) const {
    failAt(node, "\"", key, "\": ", expected, " expected, found ",
           node.IsScalar() ? "\"" + node.Scalar() + "\"" : "no scalar");
  }

  template <class Number>
  Number number(const YAML::Node& node, const char* key, const char* expected) const {
    const std::string text = node.IsScalar() ? node.Scalar() : "";
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) refuse(node, key, expected);
    return value;
  }

  std::optional<double> positive(const YAML::Node& node, const char* key) const {
    constexpr const char* kExpected = "a finite number of at least 0";
    if (!node) return std::nullopt;
    const auto value = number<double>(node, key, kExpected);
    if (!(value >= 0) || !std::isfinite(value)) refuse(node, key, kExpected);
    return value;
  }

  std::string text(const YAML::Node& rule, const char* key) const {
    const YAML::Node node = rule[key];
    if (!node) failAt(rule, "a rule without \"", key, "\"");
    if (!node.IsScalar() || node.Scalar().empty()) failAt(node, "\"", key, "\": a text expected");
    return node.Scalar();
  }

  RecipeRule readRule(const YAML::Node& node) const {
    expectKeys(node, {"bits", "damping", "format", "match", "order", "rounding", "spread", "sweeps"});
    RecipeRule rule{text(node, "match"), text(node, "format")};
    if (node["bits"]) {
      rule.format = withBits(rule.format, number<double>(node["bits"], "bits", "a number of bits"));
    }
    if (node["rounding"]) rule.rounding = text(node, "rounding");
    rule.options.damping = positive(node["damping"], "damping");
    rule.options.rateSpread = positive(node["spread"], "spread");
    if (node["sweeps"]) {
      constexpr const char* kExpected = "a whole number from 0 to 100";
      rule.options.sweeps = number<int>(node["sweeps"], "sweeps", kExpected);
      if (*rule.options.sweeps < 0 || *rule.options.sweeps > 100) refuse(node["sweeps"], "sweeps", kExpected);
    }
    if (node["order"]) {
      const std::string order = text(node, "order");
      if (order != "diagonal" && order != "columns") refuse(node["order"], "order", "diagonal or columns");
      rule.options.byDiagonal = order == "diagonal";
    }
    return rule;
  }

  const std::string& source_;
};

/// What is not as usual, by the keys of a rule.
std::vector<std::pair<std::string, std::string>> optionsOf(const RoundingOptions& o) {
  const auto text = [](double number) {
    char digits[32];
    return std::string(digits, std::to_chars(digits, digits + sizeof(digits), number).ptr);
  };
  std::vector<std::pair<std::string, std::string>> options;
  if (o.damping) options.emplace_back("damping", text(*o.damping));
  if (o.sweeps) options.emplace_back("sweeps", std::to_string(*o.sweeps));
  if (o.byDiagonal) options.emplace_back("order", *o.byDiagonal ? "diagonal" : "columns");
  if (o.rateSpread) options.emplace_back("spread", text(*o.rateSpread));
  return options;
}

/// The entry, or another one for the same codes, that is rounded so. Of those with feedback each can do both, unless it
/// has rates of its own, which LDLQ alone gives, or is one of GGUF's types, which GPTQ alone rounds.
FormatEntry roundedBy(const FormatEntry& entry, const std::string& rounding) {
  if (rounding.empty() || entry.rounding == rounding) return entry;
  std::string known = entry.rounding;
  const bool wantsFeedback = rounding == "gptq" || rounding == "ldlq";
  const bool isGguf = entry.stored.starts_with("ggml::");
  for (const FormatEntry& other : isGguf ? ggufFormatTable() : formatTable()) {
    if (other.stored != entry.stored || !other.family.empty() || !entry.family.empty()) continue;
    const bool can = other.rounding == rounding || (wantsFeedback && !isGguf && other.hasFeedback());
    if (can) {
      FormatEntry result = other;
      if (other.rounding != rounding) result.options.feedback = result.rounding = rounding;
      return result;
    }
    if (known.find(other.rounding) == std::string::npos) known += ", " + other.rounding;
  }
  throw std::invalid_argument("\"rounding\": one of those that format \"" + entry.name + "\" has (" + known +
                              ") expected, found \"" + rounding + "\"");
}

void requireOption(bool fits, const FormatEntry& entry, const char* key, const char* of) {
  if (fits) return;
  throw std::invalid_argument(std::string("\"") + key + "\": of " + of + " alone, and format \"" + entry.name +
                              "\" is rounded by " + entry.rounding);
}

std::optional<Index> wholeNumber(std::string_view text) {
  Index value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Range {
  Index first, last;
};

/// What stands between braces.
Range parseRange(std::string_view text, const std::string& pattern, Index layers) {
  const std::size_t dots = text.find("..");
  const auto first = wholeNumber(text.substr(0, dots));
  const auto last = dots == std::string_view::npos ? first : wholeNumber(text.substr(dots + 2));
  if (!first || !last) {
    throw std::invalid_argument("pattern \"" + pattern + "\": {a..b} or {a} with whole numbers expected, found {" +
                                std::string(text) + "}");
  }
  const auto fromFront = [&](Index number) { return number < 0 ? number + layers : number; };
  return {fromFront(*first), fromFront(*last)};
}

bool matches(std::string_view pattern, std::string_view name, const std::string& whole, Index layers) {
  if (pattern.empty()) return name.empty();
  if (pattern.front() == '*') {
    for (std::size_t skip = 0; skip <= name.size(); ++skip) {
      if (matches(pattern.substr(1), name.substr(skip), whole, layers)) return true;
    }
    return false;
  }
  if (pattern.front() == '{') {
    const std::size_t end = pattern.find('}');
    if (end == std::string_view::npos) throw std::invalid_argument("pattern \"" + whole + "\": a } is missing");
    const Range range = parseRange(pattern.substr(1, end - 1), whole, layers);
    const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
    const auto number = wholeNumber(name.substr(0, digits));
    return number && *number >= range.first && *number <= range.last &&
           matches(pattern.substr(end + 1), name.substr(digits), whole, layers);
  }
  return !name.empty() && pattern.front() == name.front() && matches(pattern.substr(1), name.substr(1), whole, layers);
}

}  // namespace

Recipe parseRecipe(const std::string& text, const std::string& source) {
  try {
    return RecipeReader(source).read(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    fail(source, ", line ", error.mark.line + 1, ": ", error.msg);
  }
}

std::string recipeText(const Recipe& recipe) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "seed" << YAML::Value << recipe.seed << YAML::Key << "rules" << YAML::Value
      << YAML::BeginSeq;
  for (const RecipeRule& rule : recipe.rules) {
    out << YAML::BeginMap << YAML::Key << "match" << YAML::Value << YAML::DoubleQuoted << rule.match << YAML::Key
        << "format" << YAML::Value << YAML::DoubleQuoted << rule.format;
    if (!rule.rounding.empty()) out << YAML::Key << "rounding" << YAML::Value << rule.rounding;
    for (const auto& [key, value] : optionsOf(rule.options)) out << YAML::Key << key << YAML::Value << value;
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

Recipe uniformRecipe(const std::string& format, const std::string& embedding, std::uint64_t seed) {
  const std::string beside = embedding.empty() ? embeddingFormatBeside(findFormat(format)).name : embedding;
  return {seed, {{embeddingName(), beside}, {"*", format}}};
}

bool matchesPattern(const std::string& pattern, const std::string& name, Index layers) {
  return matches(pattern, name, pattern, layers);
}

const FormatEntry& formatOfRule(const RecipeRule& rule) {
  const FormatEntry& named = findFormat(rule.format);
  FormatEntry entry = roundedBy(named, rule.rounding);
  const bool mixed = entry.family == "trellis-mixed#";
  requireOption(!rule.options.damping || entry.hasFeedback(), entry, "damping", "gptq and ldlq");
  requireOption(!rule.options.sweeps || entry.hasFeedback(), entry, "sweeps", "gptq and ldlq");
  requireOption(!rule.options.byDiagonal || entry.rounding == "gptq", entry, "order", "gptq");
  requireOption(!rule.options.rateSpread || mixed, entry, "spread", "trellis-mixed#");
  const std::string feedback = entry.options.feedback;
  entry.options = rule.options;
  entry.options.feedback = feedback;
  std::string unusual = feedback;
  for (const auto& [key, value] : optionsOf(rule.options)) {
    unusual += (unusual.empty() ? "" : ", ") + key + " " + value;
  }
  if (unusual.empty()) return findFormat(entry.name);
  entry.name += " (" + unusual + ")";
  static std::mutex mutex;
  static std::map<std::string, FormatEntry> made;
  const std::lock_guard lock(mutex);
  return made.emplace(entry.name, entry).first->second;
}

ChosenFormats chooseFormats(const Recipe& recipe, const Config& config, bool tied) {
  std::vector<std::string> names = linearNames(config, !tied);
  names.insert(names.begin(), embeddingName());
  ChosenFormats chosen;
  std::set<const RecipeRule*> used;
  for (const std::string& name : names) {
    const auto rule = std::find_if(recipe.rules.begin(), recipe.rules.end(),
                                   [&](const RecipeRule& r) { return matchesPattern(r.match, name, config.layers); });
    if (rule == recipe.rules.end()) throw std::invalid_argument("recipe: no rule matches \"" + name + "\"");
    used.insert(&*rule);
    const bool embedding = name == embeddingName();
    chosen[name] = naming("recipe: rule \"" + rule->match + "\" for \"" + name + "\"", [&] {
      const FormatEntry& format = formatOfRule(*rule);
      if (embedding) requireEmbeddingFormat(format);
      return &format;
    });
  }
  for (const RecipeRule& rule : recipe.rules) {
    if (used.contains(&rule)) continue;
    throw std::invalid_argument("recipe: rule \"" + rule.match +
                                "\" decides on no matrix: none has such a name, or rules before it match all that do");
  }
  return chosen;
}

}  // namespace llama
