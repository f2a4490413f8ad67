#include "command.h"

#include "kvlab/runtime/plugin_loader.h"

namespace kvlab {

Registry builtin_registry() {
  Registry registry;
  register_builtin_plugins(registry);
  register_builtin_experiments(registry);
  return registry;
}

void add_plugin_option(CLI::App& command, std::vector<std::string>& files) {
  command
      .add_option("--plugin", files,
                  "A plugin library to load first, the .so that kvlab_add_plugin built; may be "
                  "repeated. KVLAB_PLUGIN_PATH names more")
      ->allow_extra_args(false)
      ->option_text("FILE");
}

Registry open_registry(const std::vector<std::string>& files) {
  Registry registry = builtin_registry();
  load_plugins(registry, environment_plugin_files());
  load_plugins(registry, files);
  return registry;
}

}  // namespace kvlab
