// Makes a plugin library of the cache.
#include "kvlab/runtime/plugin_abi.h"
#include "tests/conformance/forgetful_plugin/forgetful_cache.h"

KVLAB_PLUGIN("forgetful", "1.0.0", kvlab::conformance::register_forgetful_cache);
