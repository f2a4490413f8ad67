#include "exit_code.h"

#include <c10/util/Exception.h>

#include <new>

#include "kvlab/runtime/process.h"

namespace kvlab {

int report_exception(std::ostream& log) {
  const auto say = [&](const char* text, int code) {
    log << "kvlab: " << text << "\n";
    return code;
  };
  try {
    throw;
  } catch (const InterruptedError& error) {
    return say(error.what(), kExitInterrupted);
  } catch (const MissingError& error) {
    return say(error.what(), kExitMissing);
  } catch (const UserError& error) {
    return say(error.what(), kExitUsage);
  } catch (const PluginError& error) {
    return say(error.what(), kExitUsage);
  } catch (const c10::Error& error) {
    return say(error.what_without_backtrace(), kExitFailed);
  } catch (const std::bad_alloc&) {
    return say(
        "[runtime.memory] the system has no memory left; ask for shorter texts or fewer rows",
        kExitFailed);
  } catch (const std::exception& error) {
    return say(error.what(), kExitFailed);
  } catch (...) {
    return say("an unknown error", kExitFailed);
  }
}

}  // namespace kvlab
