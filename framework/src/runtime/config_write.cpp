// Tree to text: block style, quoted wherever a plain scalar could be read as something else.
#include <cstdio>
#include <filesystem>

#include "config_tree.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/config_node.h"

namespace kvlab {

namespace {

std::string quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      default:
        if (code < 0x20 || code == 0x7F) {
          char escape[8];
          std::snprintf(escape, sizeof escape, "\\x%02x", code);
          out += escape;
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

// Plain only for what has one meaning everywhere: words, paths and numbers.
bool safe_plain(const std::string& text) {
  if (text.empty() || text.back() == ' ' || text.back() == ':') return false;
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (letter(c) || c == '_' || c == '.' || c == '/') continue;
    if (c == '-' || c == '+') {
      if (i > 0 || (text.size() > 1 && (letter(text[1]) || text[1] == '.'))) continue;
      return false;
    }
    if (i > 0 && (c == ' ' || c == '=' || c == '(' || c == ')' || c == ';')) continue;
    if (i > 0 && c == ':' && text[i + 1] != ' ') continue;
    if (i > 0 && c == ',' && text[i - 1] != ' ') continue;
    return false;
  }
  return true;
}

class Writer {
 public:
  explicit Writer(const std::string& written_to) {
    if (!written_to.empty()) {
      folder_ = std::filesystem::absolute(written_to).parent_path().string();
    }
  }

  void write(const ConfigNode& node, int indent, bool data_path) {
    if (node.is_scalar()) {
      out_ += scalar(node, data_path) + "\n";
    } else if (node.is_map()) {
      write_map(node, indent);
    } else {
      write_list(node, indent, data_path);
    }
  }

  std::string take() { return std::move(out_); }

 private:
  static bool is_empty(const ConfigNode& node) {
    return node.is_map() ? node.entries().empty() : node.is_list() && node.items().empty();
  }

  // Called with the cursor where the first line starts, already indented.
  void write_map(const ConfigNode& node, int indent) {
    bool first = true;
    for (const auto& [key, value] : node.entries()) {
      if (!first) out_.append(static_cast<size_t>(indent), ' ');
      first = false;
      out_ += safe_plain(key) ? key : quote(key);
      out_ += ":";
      if (is_empty(value)) {
        out_ += value.is_map() ? " {}\n" : " []\n";
      } else if (value.is_scalar()) {
        out_ += " ";
        write(value, indent, is_data_path_key(key));
      } else {
        out_ += "\n";
        out_.append(static_cast<size_t>(indent) + 2, ' ');
        write(value, indent + 2, is_data_path_key(key));
      }
    }
    if (first) out_ += "{}\n";
  }

  void write_list(const ConfigNode& node, int indent, bool data_path) {
    bool first = true;
    for (const ConfigNode& item : node.items()) {
      if (!first) out_.append(static_cast<size_t>(indent), ' ');
      first = false;
      out_ += "- ";
      if (is_empty(item)) {
        out_ += item.is_map() ? "{}\n" : "[]\n";
      } else {
        write(item, indent + 2, data_path);
      }
    }
    if (first) out_ += "[]\n";
  }

  std::string scalar(const ConfigNode& node, bool data_path) const {
    const std::string text = data_path && !folder_.empty() ? portable_path(node) : node.text();
    return node.quoted() || !safe_plain(text) ? quote(text) : text;
  }

  std::string portable_path(const ConfigNode& node) const {
    std::vector<std::string> looked;
    const std::string target = config::find_file(node.text(), node.folders(), looked);
    if (target.empty()) return node.text();  // the run itself will say that it is missing
    looked.clear();
    const std::string from_there = config::find_file(node.text(), {folder_}, looked);
    return from_there == target ? node.text() : target;
  }

  std::string folder_;
  std::string out_;
};

}  // namespace

std::string to_yaml(const ConfigNode& node, const std::string& written_to) {
  Writer writer(written_to);
  writer.write(node, 0, false);
  return writer.take();
}

}  // namespace kvlab
