#include "command.h"

namespace kvlab {

Registry builtin_registry() {
  Registry registry;
  register_builtin_plugins(registry);
  register_builtin_experiments(registry);
  return registry;
}

}  // namespace kvlab
