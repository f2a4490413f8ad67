#include "component_description.h"

#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

void require_described(const ComponentInfo& info, const char* kind) {
  require(!info.summary.empty() && info.summary.find('\n') == std::string::npos, kind, " '",
          info.name, "' needs a summary of one line");
  for (const OptionSpec& option : info.options) {
    require(!option.doc.empty(), kind, " '", info.name, "': option '", option.name,
            "' needs a sentence that says what it does");
  }
  for (const std::string& example : info.examples) {
    try {
      resolve_options(info, parse_component_spec(info.name + ":" + example), kind);
    } catch (const UserError& error) {
      throw Failure(detail::concat(kind, " '", info.name, "': its example '", example,
                                   "' is refused: ", error.what()));
    }
  }
}

}  // namespace kvlab::conformance
