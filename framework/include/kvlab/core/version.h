// The version of the framework. CMake reads it from here, and plugins carry it in their
// fingerprint.
#pragma once

#define KVLAB_FRAMEWORK_VERSION "0.1.0"
