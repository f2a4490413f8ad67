// Texts and conversations out of JSON Lines files: one JSON object per line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvlab {

/// A text, or the token ids it stands for.
struct TextPiece {
  std::string text;  ///< empty where ids were given
  std::vector<int64_t> ids;
};

/// One line: a prompt is one piece, a conversation one piece per turn.
struct JsonlLine {
  std::string where;  ///< "prompts.jsonl:3", for messages
  std::vector<TextPiece> pieces;
};

/// Prompts: each line is an object with a text under `field`, or with `ids`, a list of whole
/// numbers; other keys are left alone. Throws UserError "FILE:LINE: ..." for a line that is no JSON
/// object, has neither or both of them, an empty one, or one of another type; and for a file
/// without lines.
std::vector<JsonlLine> read_jsonl_prompts(const std::string& path, const std::string& field);

/// Conversations: each line is an object whose `turns` lists what one side says, each a text or a
/// list of ids. Throws as `read_jsonl_prompts`.
std::vector<JsonlLine> read_jsonl_turns(const std::string& path);

}  // namespace kvlab
