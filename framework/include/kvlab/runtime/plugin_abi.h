// What a plugin library exports, and the fingerprint by which it is known to fit the program that
// loads it. `kvlab_add_plugin` writes the export; by hand it is KVLAB_PLUGIN in one source file.
#pragma once

#include <torch/headeronly/version.h>

#include <cstdint>

#include "kvlab/core/version.h"
// Only a build has it; what is compiled without fits no program.
#if __has_include("kvlab/runtime/headers_hash.h")
#include "kvlab/runtime/headers_hash.h"
#else
#define KVLAB_HEADERS_HASH "unknown"
#endif

namespace kvlab {
class Registry;
}

/// Version of `KvlabPlugin` and of how it is used.
#define KVLAB_PLUGIN_API 1

/// The one symbol a plugin library must export.
#define KVLAB_PLUGIN_SYMBOL "kvlab_plugin"

// The fingerprint of the translation unit that includes this header. Macros and not constants: an
// inline constant of a plugin would be replaced by the program's own when the library is loaded.
#define KVLAB_PLUGIN_TEXT_OF_(value) #value
#define KVLAB_PLUGIN_TEXT_(value) KVLAB_PLUGIN_TEXT_OF_(value)

/// Of kvlab: its version, and the hash of the public headers.
#define KVLAB_PLUGIN_FRAMEWORK KVLAB_FRAMEWORK_VERSION " (headers " KVLAB_HEADERS_HASH ")"

/// Name and major version.
#ifdef __clang__
#define KVLAB_PLUGIN_COMPILER "clang " KVLAB_PLUGIN_TEXT_(__clang_major__)
#else
#define KVLAB_PLUGIN_COMPILER "g++ " KVLAB_PLUGIN_TEXT_(__GNUC__)
#endif

#if defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#error "kvlab uses the C++11 ABI of libstdc++: build the plugin without _GLIBCXX_USE_CXX11_ABI=0"
#endif

/// Of the standard library and of the compiler.
#ifdef _GLIBCXX_USE_CXX11_ABI
#ifdef _GLIBCXX_DEBUG
#define KVLAB_PLUGIN_CONTAINERS_ ", debug containers"
#else
#define KVLAB_PLUGIN_CONTAINERS_ ""
#endif
#define KVLAB_PLUGIN_CXX_ABI                                                                      \
  "libstdc++ cxx11=" KVLAB_PLUGIN_TEXT_(_GLIBCXX_USE_CXX11_ABI) " gxx=" KVLAB_PLUGIN_TEXT_(       \
      __GXX_ABI_VERSION) KVLAB_PLUGIN_CONTAINERS_
#else
#define KVLAB_PLUGIN_CXX_ABI "unknown standard library"
#endif

/// "release" (NDEBUG) or "debug", and the sanitizers that change the layout of memory.
#ifdef NDEBUG
#define KVLAB_PLUGIN_BUILD_ "release"
#else
#define KVLAB_PLUGIN_BUILD_ "debug"
#endif
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define KVLAB_PLUGIN_ADDRESS_ " address-sanitizer"
#endif
#if __has_feature(thread_sanitizer)
#define KVLAB_PLUGIN_THREAD_ " thread-sanitizer"
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define KVLAB_PLUGIN_ADDRESS_ " address-sanitizer"
#endif
#ifdef __SANITIZE_THREAD__
#define KVLAB_PLUGIN_THREAD_ " thread-sanitizer"
#endif
#ifndef KVLAB_PLUGIN_ADDRESS_
#define KVLAB_PLUGIN_ADDRESS_ ""
#endif
#ifndef KVLAB_PLUGIN_THREAD_
#define KVLAB_PLUGIN_THREAD_ ""
#endif
#define KVLAB_PLUGIN_BUILD KVLAB_PLUGIN_BUILD_ KVLAB_PLUGIN_ADDRESS_ KVLAB_PLUGIN_THREAD_

extern "C" {

/// Description of a plugin library: plain data, so that it can be read before anything else of the
/// library is trusted. Everything up to `build` must equal the program's; texts live as long as the
/// library, and none is null.
struct KvlabPlugin {
  uint32_t api_version;           ///< KVLAB_PLUGIN_API; stays the first member for ever
  uint32_t struct_size;           ///< sizeof(KvlabPlugin); stays the second
  const char* framework_version;  ///< of kvlab, with the hash of its headers
  const char* torch_version;
  const char* compiler;
  const char* cxx_abi;
  const char* build;
  const char* name;     ///< of the plugin, for messages
  const char* version;  ///< of the plugin
  void (*register_plugin)(kvlab::Registry&);  ///< adds entries; may throw
};

/// The type of the exported function.
typedef const KvlabPlugin* KvlabPluginFunction();
}

/// Defines the exported function: `name` and `version` are string literals, `register_function` is
/// a void(kvlab::Registry&). Outside every namespace, in one source file of the library.
#define KVLAB_PLUGIN(name, version, register_function)                                             \
  extern "C" __attribute__((visibility("default"))) const KvlabPlugin* kvlab_plugin();             \
  extern "C" const KvlabPlugin* kvlab_plugin() {                                                   \
    static const KvlabPlugin plugin = {KVLAB_PLUGIN_API,     sizeof(KvlabPlugin),                  \
                                       KVLAB_PLUGIN_FRAMEWORK, TORCH_VERSION,                      \
                                       KVLAB_PLUGIN_COMPILER, KVLAB_PLUGIN_CXX_ABI,                \
                                       KVLAB_PLUGIN_BUILD,   name,                                 \
                                       version,              register_function};                   \
    return &plugin;                                                                                \
  }                                                                                                \
  static_assert(true, "takes the semicolon after KVLAB_PLUGIN(...)")
