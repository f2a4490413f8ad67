#include "json_output.h"

#include <iostream>

namespace kvlab {

void print_json(const Json& json) {
  std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n" << std::flush;
}

}  // namespace kvlab
