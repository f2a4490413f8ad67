#include "config_values.h"

#include <charconv>
#include <cmath>
#include <memory>
#include <string_view>

#include "config_tree.h"

namespace kvlab {

namespace config {

bool looks_like_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && stop == text.data() + text.size() && error != std::errc::invalid_argument;
}

namespace {

std::string format(double value) { return detail::concat(value); }

std::string range_text(IntegerRange range) {
  const IntegerRange all;
  const bool low = range.minimum != all.minimum, high = range.maximum != all.maximum;
  if (low && high) return detail::concat("from ", range.minimum, " to ", range.maximum);
  if (low) return detail::concat("of at least ", range.minimum);
  return detail::concat("of at most ", range.maximum);
}

std::string range_text(NumberRange range) {
  const NumberRange all;
  std::string text;
  if (range.minimum != all.minimum) {
    text += (range.minimum_open ? "above " : "of at least ") + format(range.minimum);
  }
  if (range.maximum != all.maximum) {
    text += (text.empty() ? "" : " and ");
    text += (range.maximum_open ? "below " : "at most ") + format(range.maximum);
  }
  return text;
}

void need_scalar(const ConfigNode& node, const char* wanted) {
  if (!node.is_scalar()) {
    fail_at(node, detail::concat("wanted ", wanted, ", got ", node.description()));
  }
}

template <typename T>
T parse_plain(const ConfigNode& node, const char* wanted) {
  need_scalar(node, wanted);
  const std::string& text = node.text();
  if (node.quoted()) {
    fail_at(node, detail::concat("wanted ", wanted, ", got the text \"", text,
                                 looks_like_number(text) ? "\"; drop the quotes" : "\""));
  }
  T value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    fail_at(node, detail::concat("wanted ", wanted, ", got '", text, "', which is out of reach of ",
                                 std::is_integral_v<T> ? "64 bits" : "a double"));
  }
  if (error != std::errc{} || stop != text.data() + text.size()) {
    const bool fraction = std::is_integral_v<T> && looks_like_number(text);
    fail_at(node, detail::concat("wanted ", wanted, ", got '", text, "'",
                                 fraction ? "; write it as digits only" : ""));
  }
  return value;
}

}  // namespace

int64_t read_integer(const ConfigNode& node, IntegerRange range) {
  const auto value = parse_plain<int64_t>(node, "a whole number");
  if (value < range.minimum || value > range.maximum) {
    fail_at(node, detail::concat("wanted a whole number ", range_text(range), ", got ", value));
  }
  return value;
}

double read_number(const ConfigNode& node, NumberRange range) {
  const auto value = parse_plain<double>(node, "a number");
  if (!std::isfinite(value)) {
    fail_at(node, detail::concat("wanted a finite number, got '", node.text(), "'"));
  }
  const bool low = range.minimum_open ? value <= range.minimum : value < range.minimum;
  const bool high = range.maximum_open ? value >= range.maximum : value > range.maximum;
  if (low || high) {
    fail_at(node, detail::concat("wanted a number ", range_text(range), ", got ", node.text()));
  }
  return value;
}

bool read_boolean(const ConfigNode& node) {
  need_scalar(node, "true or false");
  if (!node.quoted() && node.text() == "true") return true;
  if (!node.quoted() && node.text() == "false") return false;
  fail_at(node, detail::concat("wanted true or false, got ", node.description()));
}

std::string read_text(const ConfigNode& node) {
  need_scalar(node, "a text");
  const std::string& text = node.text();
  if (!node.quoted() && looks_like_number(text)) {
    fail_at(node, detail::concat("wanted a text, got the number ", text, "; write \"", text, "\""));
  }
  if (!node.quoted() && (text == "true" || text == "false")) {
    fail_at(node,
            detail::concat("wanted a text, got the boolean ", text, "; write \"", text, "\""));
  }
  if (text.empty()) fail_at(node, "wanted a text, got an empty one");
  return text;
}

std::string read_choice(const ConfigNode& node, const std::vector<std::string>& choices) {
  const std::string text = read_text(node);
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    fail_at(node, detail::concat("'", text, "' is not a choice.", suggestion(text, choices)));
  }
  return text;
}

}  // namespace config

namespace {

// Gives every part of a compact spec the place of the scalar it stands in.
ComponentSpec placed(const ComponentSpec& spec, const ConfigNode& node) {
  ComponentSpec result{spec.type, {}, node.where()};
  for (const auto& [name, option] : spec.options) {
    if (name == "n_kv_groups") {
      fail_at(node, "the option n_kv_groups is refused, since the field uses it for two different "
                    "things; write kv_heads");
    }
    RawOption raw{option.text, nullptr, node.where()};
    if (option.component) {
      raw.component = std::make_shared<const ComponentSpec>(placed(*option.component, node));
    }
    result.options[name] = raw;
  }
  return result;
}

RawOption read_option(const ConfigNode& node) {
  if (node.is_map()) {
    return {"", std::make_shared<const ComponentSpec>(read_component(node)), node.where()};
  }
  if (node.is_list()) {
    fail_at(node, "an option is one value or a nested component, got a list");
  }
  if (node.quoted() && (config::looks_like_number(node.text()) || node.text() == "true" ||
                        node.text() == "false")) {
    fail_at(node, detail::concat("an option in quotes is a text, got \"", node.text(),
                                 "\"; drop the quotes"));
  }
  return {node.text(), nullptr, node.where()};
}

}  // namespace

ComponentSpec read_component(const ConfigNode& node) {
  if (node.is_list()) {
    fail_at(node, "wanted a component, got a list; write {type: NAME, option: value}");
  }
  if (node.is_scalar()) {
    const std::string& text = node.text();
    if (text.empty() || config::looks_like_number(text) || text == "true" || text == "false") {
      fail_at(node, detail::concat("wanted a component, got ", node.description(),
                                   "; write its name, or {type: NAME, option: value}"));
    }
    ComponentSpec spec;
    try {
      spec = parse_component_spec(text);
    } catch (const UserError& error) {
      fail_at(node, error.what());
    }
    return placed(spec, node);
  }
  const ConfigNode* type = node.find("type");
  if (type == nullptr) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : node.entries()) keys.push_back(key);
    const std::vector<std::string> near = near_names("type", keys);
    fail_at(node, detail::concat("a component needs the key type; write {type: NAME, ",
                                 "option: value}",
                                 near.empty() ? "" : " (is '" + near.front() + "' a slip?)"));
  }
  ComponentSpec spec{config::read_text(*type), {}, node.where()};
  for (const auto& [key, value] : node.entries()) {
    if (key != "type") spec.options[key] = read_option(value);
  }
  return spec;
}

}  // namespace kvlab
