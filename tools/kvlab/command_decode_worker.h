// `kvlab decode-worker`: answers timing requests about one loaded model, for comparisons with other
// engines. Programs start it (tools/bench_peers); it is not shown.
#pragma once

#include "command.h"

namespace kvlab {

void add_decode_worker_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab
