#include "kvlab/sweep/sweep_spec.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <set>

#include "kvlab/core/component.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

constexpr int64_t kLargestNumber = 1000000000000000;  // of a range, so that nothing overflows

std::string trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

// The parts between commas that stand outside of brackets and quotes.
std::vector<std::string> split_values(std::string_view text, const std::string& axis) {
  std::vector<std::string> parts;
  std::string open;  // closing brackets that are awaited, innermost last
  char quote = 0;
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == '\\' && quote == '"') ++i;
      if (c == quote) quote = 0;
      continue;
    }
    if (c == '"' || c == '\'') {
      // An apostrophe inside a word is no quote.
      if (trimmed(text.substr(start, i - start)).empty() || !open.empty()) quote = c;
    } else if (c == '[' || c == '{' || c == '(') {
      open += c == '[' ? ']' : c == '{' ? '}' : ')';
    } else if (c == ']' || c == '}' || c == ')') {
      KVLAB_CHECK(!open.empty() && open.back() == c, "[sweep.axis] '", axis, "': '",
                  std::string(1, c), "' closes no bracket");
      open.pop_back();
    } else if (c == ',' && open.empty()) {
      parts.push_back(trimmed(text.substr(start, i - start)));
      start = i + 1;
    }
  }
  KVLAB_CHECK(quote == 0 && open.empty(), "[sweep.axis] '", axis, "': ",
              quote != 0 ? "a quote" : "a bracket", " is not closed");
  parts.push_back(trimmed(text.substr(start)));
  return parts;
}

int64_t range_number(const std::string& text, const std::string& range) {
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  KVLAB_CHECK(error == std::errc{} && stop == text.data() + text.size(), "[sweep.range] '", range,
              "': wanted range(start,stop) or range(start,stop,step) of whole numbers, got '", text,
              "'");
  KVLAB_CHECK(std::abs(value) <= kLargestNumber, "[sweep.range] '", range, "': at most ",
              kLargestNumber, " either way, got ", value);
  return value;
}

// The numbers of range(start,stop,step); nothing where `text` is no range.
std::optional<std::vector<std::string>> expand_range(const std::string& text) {
  if (!text.starts_with("range(") || !text.ends_with(")")) return std::nullopt;
  const std::string inside = text.substr(6, text.size() - 7);
  const std::vector<std::string> parts = split_values(inside, text);
  KVLAB_CHECK(parts.size() == 2 || parts.size() == 3, "[sweep.range] '", text,
              "': wanted range(start,stop) or range(start,stop,step), got ", parts.size(),
              " numbers");
  const int64_t start = range_number(parts[0], text);
  const int64_t stop = range_number(parts[1], text);
  const int64_t step = parts.size() == 3 ? range_number(parts[2], text) : 1;
  KVLAB_CHECK(step != 0, "[sweep.range] '", text, "': the step is 0, so it would never end");
  std::vector<std::string> values;
  for (int64_t value = start; step > 0 ? value < stop : value > stop; value += step) {
    values.push_back(std::to_string(value));
    KVLAB_CHECK(values.size() <= kMostSweepCases, "[sweep.range] '", text, "': more than ",
                kMostSweepCases, " values, which is the most cases of a sweep; take a larger step");
  }
  KVLAB_CHECK(!values.empty(), "[sweep.range] '", text,
              "': it holds no value; stop is excluded, and a range downwards needs a step below 0");
  return values;
}

std::string double_quoted(const std::string& text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += std::string("\\x") + kDigits[byte >> 4] + kDigits[byte & 15];
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string scalar_text(const ConfigNode& node) {
  const std::string& text = node.text();
  const bool plain = !text.empty() &&
                     text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789_.+-/%()") == std::string::npos;
  return plain && !node.quoted() ? text : double_quoted(text);
}

// A path is looked for from the file that names it, which an override is not.
std::string path_text(const ConfigNode& node) {
  try {
    return double_quoted(resolve_path(node));
  } catch (const MissingError&) {
    return scalar_text(node);  // the case that uses it says that it is missing
  }
}

// The values of a key: a list, or a range.
std::vector<std::string> values_of(const std::string& key, const ConfigNode& node) {
  if (node.is_scalar()) {
    if (auto range = expand_range(node.text())) return *range;
  }
  if (!node.is_list() || node.items().empty()) {
    fail_at(node, detail::concat("wanted a list of values for ", key,
                                 " or range(start,stop,step), got ", node.description()));
  }
  std::vector<std::string> values;
  for (const ConfigNode& item : node.items()) {
    if (is_data_path_key(key.substr(key.rfind('.') + 1)) && item.is_scalar()) {
      values.push_back(path_text(item));
    } else {
      values.push_back(flow_text(item));
    }
  }
  return values;
}

const ConfigNode& need_map(const ConfigNode& node) {
  if (!node.is_map() || node.entries().empty()) {
    fail_at(node, "wanted a map of keys that vary, got " +
                      (node.is_map() ? "an empty one" : node.description()));
  }
  return node;
}

void read_grid(const ConfigNode& grid, std::vector<SweepFactor>& factors) {
  for (const auto& [key, values] : need_map(grid).entries()) {
    SweepFactor factor;
    for (std::string& value : values_of(key, values)) factor.push_back({{key, std::move(value)}});
    factors.push_back(std::move(factor));
  }
}

SweepFactor read_zip(const ConfigNode& zip) {
  SweepFactor factor;
  for (const auto& [key, node] : need_map(zip).entries()) {
    const std::vector<std::string> values = values_of(key, node);
    if (factor.empty()) factor.resize(values.size());
    if (factor.size() != values.size()) {
      fail_at(node, detail::concat("keys of zip go in lock-step, so all need as many values: got ",
                                   values.size(), " here and ", factor.size(), " before"));
    }
    for (size_t i = 0; i < values.size(); ++i) factor[i].push_back({key, values[i]});
  }
  return factor;
}

SweepFactor read_list(const ConfigNode& list) {
  if (!list.is_list() || list.items().empty()) {
    fail_at(list, "wanted a list of maps, each with the keys of one case, got " +
                      list.description());
  }
  SweepFactor factor;
  for (const ConfigNode& item : list.items()) {
    SweepPoint point;
    for (const auto& [key, value] : need_map(item).entries()) {
      point.push_back({key, flow_text(value)});
    }
    factor.push_back(std::move(point));
  }
  return factor;
}

// The same settings twice would be one case that counts as two.
void check_points_differ(const SweepFactor& factor) {
  std::set<std::vector<std::string>> known;
  for (const SweepPoint& point : factor) {
    std::vector<std::string> texts;
    for (const SweepSetting& setting : point) texts.push_back(setting.override_text());
    KVLAB_CHECK(known.insert(texts).second, "[sweep.spec] '", texts.front(),
                texts.size() > 1 ? "' and what goes with it" : "'",
                " stands twice in one axis; the same case would run twice. Delete one of them");
  }
}

std::set<std::string> keys_of(const SweepFactor& factor) {
  std::set<std::string> keys;
  for (const SweepPoint& point : factor) {
    for (const SweepSetting& setting : point) keys.insert(setting.key);
  }
  return keys;
}

}  // namespace

std::string SweepSetting::override_text() const {
  return key.starts_with('~') ? key : key + "=" + value;
}

std::vector<SweepFactor> read_sweep(const ConfigNode& sweep) {
  std::vector<SweepFactor> factors;
  for (const auto& [key, node] : need_map(sweep).entries()) {
    if (key == "grid") {
      read_grid(node, factors);
    } else if (key == "zip") {
      factors.push_back(read_zip(node));
    } else if (key == "list") {
      factors.push_back(read_list(node));
    } else {
      fail_at(node, detail::concat("sweep holds grid, zip and list, got '", key, "'.",
                                   suggestion(key, {"grid", "zip", "list"})));
    }
  }
  return factors;
}

SweepFactor parse_axis(const std::string& text) {
  const size_t equals = text.find('=');
  KVLAB_CHECK(equals != std::string::npos && equals > 0 && equals + 1 < text.size(),
              "[sweep.axis] '", text, "': an axis is key=value,value,... or key=range(start,stop,step)");
  const std::string key = text.substr(0, equals);
  SweepFactor factor;
  for (const std::string& value : split_values(std::string_view(text).substr(equals + 1), text)) {
    KVLAB_CHECK(!value.empty(), "[sweep.axis] '", text, "': a value between commas is missing");
    if (const auto range = expand_range(value)) {
      for (const std::string& number : *range) factor.push_back({{key, number}});
    } else {
      factor.push_back({{key, value}});
    }
    // Here and not only when cases are counted: many ranges would fill the memory before.
    KVLAB_CHECK(factor.size() <= kMostSweepCases, "[sweep.axis] '", key, "': more than ",
                kMostSweepCases, " values, which is the most cases of a sweep");
  }
  return factor;
}

void take_axes(std::vector<SweepFactor>& factors, const std::vector<std::string>& axes) {
  const size_t of_file = factors.size();
  std::set<std::string> taken;
  for (const std::string& text : axes) {
    SweepFactor axis = parse_axis(text);
    const std::set<std::string> own = keys_of(axis);
    const auto end = factors.begin() + static_cast<std::ptrdiff_t>(of_file);
    // The second -m of a key replaces nothing: which of both was meant is not known.
    const auto same = !taken.insert(*own.begin()).second
                          ? end
                          : std::find_if(factors.begin(), end, [&](const SweepFactor& factor) {
                              return keys_of(factor) == own;
                            });
    if (same != end) {
      *same = std::move(axis);
    } else {
      factors.push_back(std::move(axis));
    }
  }
}

int64_t count_cases(const std::vector<SweepFactor>& factors, int64_t limit) {
  std::set<std::string> known;
  int64_t count = 1;
  for (const SweepFactor& factor : factors) {
    for (const std::string& key : keys_of(factor)) {
      KVLAB_CHECK(known.insert(key).second, "[sweep.spec] '", key,
                  "' is varied twice; delete it from grid, zip, list or -m");
    }
    check_points_differ(factor);
    // Neither operand is above some millions, so this cannot overflow.
    count *= static_cast<int64_t>(factor.size());
    KVLAB_CHECK(count <= limit, "[sweep.spec] a sweep has at most ", limit,
                " cases, this one has more; split it, or vary fewer values");
  }
  return count;
}

std::vector<SweepPoint> sweep_points(const std::vector<SweepFactor>& factors) {
  std::vector<SweepPoint> points(1);
  for (const SweepFactor& factor : factors) {
    std::vector<SweepPoint> longer;
    for (const SweepPoint& begun : points) {
      for (const SweepPoint& next : factor) {
        longer.push_back(begun);
        longer.back().insert(longer.back().end(), next.begin(), next.end());
      }
    }
    points = std::move(longer);
  }
  return points;
}

std::vector<std::string> sweep_keys(const std::vector<SweepFactor>& factors) {
  std::vector<std::string> keys;
  for (const SweepFactor& factor : factors) {
    for (const SweepPoint& point : factor) {
      for (const SweepSetting& setting : point) {
        if (std::find(keys.begin(), keys.end(), setting.key) == keys.end()) {
          keys.push_back(setting.key);
        }
      }
    }
  }
  return keys;
}

std::string flow_text(const ConfigNode& node) {
  if (node.is_scalar()) return scalar_text(node);
  std::string text;
  if (node.is_list()) {
    for (const ConfigNode& item : node.items()) text += (text.empty() ? "" : ", ") + flow_text(item);
    return "[" + text + "]";
  }
  for (const auto& [key, value] : node.entries()) {
    const bool path = is_data_path_key(key) && value.is_scalar();
    text += (text.empty() ? "" : ", ") + key + ": " + (path ? path_text(value) : flow_text(value));
  }
  return "{" + text + "}";
}

}  // namespace kvlab
