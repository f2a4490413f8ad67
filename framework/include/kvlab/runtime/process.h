// What concerns the whole process: threads, denormals, the allocator and interruption.
#pragma once

#include <string>

#include "kvlab/core/error.h"

namespace kvlab {

/// The user pressed Ctrl-C; partial results are kept.
class InterruptedError : public Error {
 public:
  using Error::Error;
};

/// Prepares a process once, before any tensor work: flushes denormals (measured at 12 times
/// slower), lets freed memory be reused instead of returned, switches gradients off, lets the ends
/// of child processes be asked for, and makes the kernels use the instruction set that the
/// environment variable KVLAB_SIMD_TARGET names. Throws UserError where this CPU cannot run that
/// one.
void prepare_process();

/// Sets the number of threads that sessions and the library's products use. Throws UserError below
/// 1.
///
/// Both have threads of their own. The library's (libgomp) wait for their next product in a loop
/// for some milliseconds before they sleep; the pool's sleep after microseconds. A decode step of
/// few tokens makes no library product, so that only the pool's are awake then.
void set_threads(int threads);
int threads();

/// Lets Ctrl-C and SIGTERM ask for a stop; a second one ends the process at once.
void handle_interrupts();
bool interrupted();
void request_interrupt();
void clear_interrupt();

/// Throws InterruptedError where a stop was asked for.
void check_interrupted();

/// What the system calls the processor, "unknown" where it does not say.
std::string cpu_model();

/// Highest resident memory of the process so far, in bytes.
int64_t peak_resident_bytes();

}  // namespace kvlab
