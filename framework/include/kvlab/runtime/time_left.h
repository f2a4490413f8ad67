// How long a piece of work still takes, for people who wait for it.
#pragma once

#include <cstdint>
#include <string>

namespace kvlab {

/// How long the rest takes at the pace so far, as ", 12 s left"; empty where nothing or all is done.
std::string time_left(double passed_seconds, int64_t done, int64_t total);

}  // namespace kvlab
