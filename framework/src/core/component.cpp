#include "kvlab/core/component.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const char* type_name(OptionType type) {
  switch (type) {
    case OptionType::boolean: return "true or false";
    case OptionType::integer: return "a whole number";
    case OptionType::number: return "a number";
    case OptionType::text: return "a word";
    case OptionType::component: return "a component";
  }
  return "?";
}

// Digits that YAML 1.1 readers disagree about: 010 is 8 or 10.
bool octal_looking(const std::string& text) {
  size_t i = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return text.size() > i + 1 && text[i] == '0' && text[i + 1] >= '0' && text[i + 1] <= '9';
}

class OptionReader {
 public:
  OptionReader(const ComponentInfo& info, std::string_view kind, const OptionSpec& option,
               const RawOption& raw)
      : option_(option), raw_(raw), label_(detail::concat(kind, ".", info.name, ".", option.name)) {}

  Options::Value read() const {
    if (option_.type == OptionType::component) {
      if (raw_.component) return *raw_.component;
      return parse_component_spec(raw_.text);
    }
    if (raw_.component) refuse("a nested component");
    switch (option_.type) {
      case OptionType::boolean:
        if (raw_.text == "true") return true;
        if (raw_.text == "false") return false;
        refuse("'" + raw_.text + "'");
      case OptionType::integer: return in_range(parse<int64_t>());
      case OptionType::number: return in_range(parse<double>());
      default: break;
    }
    if (!option_.choices.empty() &&
        std::find(option_.choices.begin(), option_.choices.end(), raw_.text) ==
            option_.choices.end()) {
      fail(detail::concat("'", raw_.text, "' is not a choice.",
                          suggestion(raw_.text, option_.choices)));
    }
    return raw_.text;
  }

 private:
  template <typename T>
  T parse() const {
    T value{};
    const char* begin = raw_.text.data();
    const char* end = begin + raw_.text.size();
    const auto [stop, error] = std::from_chars(begin, end, value);
    bool good = error == std::errc{} && stop == end && !octal_looking(raw_.text);
    if constexpr (std::is_floating_point_v<T>) good = good && std::isfinite(value);
    if (!good) refuse("'" + raw_.text + "'");
    return value;
  }

  template <typename T>
  T in_range(T value) const {
    const auto number = static_cast<double>(value);
    if ((option_.minimum && number < *option_.minimum) ||
        (option_.maximum && number > *option_.maximum)) {
      std::ostringstream range;
      if (option_.minimum) range << "at least " << *option_.minimum;
      if (option_.minimum && option_.maximum) range << " and ";
      if (option_.maximum) range << "at most " << *option_.maximum;
      fail(detail::concat("wanted ", range.str(), option_.unit.empty() ? "" : " ", option_.unit,
                          ", got ", raw_.text));
    }
    return value;
  }

  [[noreturn]] void refuse(const std::string& got) const {
    fail(detail::concat("wanted ", type_name(option_.type), ", got ", got));
  }

  [[noreturn]] void fail(const std::string& message) const {
    throw UserError(detail::concat(raw_.where, raw_.where.empty() ? "" : ": ", "[", label_, "] ",
                                   message));
  }

  const OptionSpec& option_;
  const RawOption& raw_;
  std::string label_;
};

}  // namespace

std::vector<std::string> near_names(std::string_view name, const std::vector<std::string>& known) {
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(name, candidate);
    if (distance <= std::max<size_t>(2, candidate.size() / 3)) ranked.emplace_back(distance, candidate);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (size_t i = 0; i < ranked.size() && i < 3; ++i) names.push_back(ranked[i].second);
  return names;
}

std::string suggestion(std::string_view name, const std::vector<std::string>& known) {
  std::string text;
  const std::vector<std::string> near = near_names(name, known);
  if (!near.empty()) text += " Did you mean '" + near.front() + "'?";
  text += " Known: " + (known.empty() ? std::string("none") : join(known)) + ".";
  return text;
}

ComponentSpec parse_component_spec(std::string_view text) {
  ComponentSpec spec;
  const size_t colon = text.find(':');
  spec.type = std::string(text.substr(0, colon));
  KVLAB_CHECK(!spec.type.empty(), "[core.component.parse] '", text,
              "' names no component; write name[:option=value,...]");
  if (colon == std::string_view::npos) return spec;
  std::map<std::string, ComponentSpec> nested;
  std::string_view rest = text.substr(colon + 1);
  while (true) {
    const size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const size_t equals = item.find('=');
    KVLAB_CHECK(equals != std::string_view::npos && equals > 0, "[core.component.parse] '", item,
                "' in '", text, "' is not option=value");
    const std::string name(item.substr(0, equals));
    const std::string value(item.substr(equals + 1));
    const size_t dot = name.find('.');
    if (dot != std::string::npos) {
      nested[name.substr(0, dot)].options[name.substr(dot + 1)] = RawOption{value, nullptr, ""};
    } else {
      KVLAB_CHECK(!spec.options.contains(name), "[core.component.parse] option '", name,
                  "' stands twice in '", text, "'");
      spec.options[name] = RawOption{value, nullptr, ""};
    }
    if (comma == std::string_view::npos) break;
    rest = rest.substr(comma + 1);
  }
  for (auto& [name, component] : nested) {
    const auto type = spec.options.find(name);
    KVLAB_CHECK(type != spec.options.end(), "[core.component.parse] '", text, "' sets options of '",
                name, "' but does not name it; add ", name, "=NAME");
    component.type = type->second.text;
    type->second = RawOption{"", std::make_shared<const ComponentSpec>(component), ""};
  }
  return spec;
}

std::string to_string(const ComponentSpec& spec) {
  std::string text = spec.type;
  char separator = ':';
  const auto append = [&](const std::string& name, const std::string& value) {
    text += separator + name + "=" + value;
    separator = ',';
  };
  for (const auto& [name, option] : spec.options) {
    if (!option.component) {
      append(name, option.text);
      continue;
    }
    append(name, option.component->type);
    for (const auto& [inner_name, inner] : option.component->options) {
      append(name + "." + inner_name, inner.text);
    }
  }
  return text;
}

template <typename T>
const T& Options::get(std::string_view name) const {
  const auto found = values_.find(name);
  KVLAB_INVARIANT(found != values_.end(), "[core.options] no option '", name,
                  "' was declared; add it to the plugin's OptionSpecs");
  const T* value = std::get_if<T>(&found->second);
  KVLAB_INVARIANT(value != nullptr, "[core.options] option '", name, "' has another type");
  return *value;
}

bool Options::boolean(std::string_view name) const { return get<bool>(name); }
int64_t Options::integer(std::string_view name) const { return get<int64_t>(name); }
double Options::number(std::string_view name) const { return get<double>(name); }
const std::string& Options::text(std::string_view name) const { return get<std::string>(name); }
const ComponentSpec& Options::component(std::string_view name) const {
  return get<ComponentSpec>(name);
}

Options resolve_options(const ComponentInfo& info, const ComponentSpec& spec,
                        std::string_view kind) {
  std::vector<std::string> known;
  for (const OptionSpec& option : info.options) known.push_back(option.name);
  for (const auto& [name, raw] : spec.options) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string reason;
    if (name == "n_kv_groups") {
      reason = " The field uses this word for two different things; write kv_heads.";
    }
    throw UserError(detail::concat(raw.where, raw.where.empty() ? "" : ": ", "[", kind, ".",
                                   info.name, "] unknown option '", name, "'.",
                                   reason.empty() ? suggestion(name, known) : reason));
  }
  Options options;
  for (const OptionSpec& option : info.options) {
    const auto given = spec.options.find(option.name);
    if (given == spec.options.end() && option.required) {
      throw UserError(detail::concat(spec.where, spec.where.empty() ? "" : ": ", "[", kind, ".",
                                     info.name, "] option '", option.name, "' is required: ",
                                     option.doc));
    }
    const RawOption raw = given == spec.options.end() ? RawOption{option.default_text, nullptr, ""}
                                                      : given->second;
    options.values_.emplace(option.name, OptionReader(info, kind, option, raw).read());
  }
  return options;
}

}  // namespace kvlab
