# Finds LibTorch without running its own CMake package, which fails where a CUDA toolkit but no GPU
# is present. Gives LibTorch::cpu. Looks in KVLAB_TORCH_ROOT, then in the project's own .deps/venv.
# A root is a folder with include/ and lib/: a LibTorch zip's, or site-packages/torch.
set(_kvlab_torch_hints)
if(KVLAB_TORCH_ROOT)
  list(APPEND _kvlab_torch_hints ${KVLAB_TORCH_ROOT})
else()
  file(GLOB _kvlab_torch_hints ${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch)
endif()

find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_kvlab_torch_hints}
          PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_kvlab_torch_hints} PATH_SUFFIXES lib
             NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_kvlab_torch_hints} PATH_SUFFIXES lib
             NO_DEFAULT_PATH)

if(LibTorch_INCLUDE_DIR AND EXISTS ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)
  set(_kvlab_version_file ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)
elseif(LibTorch_INCLUDE_DIR)
  set(_kvlab_version_file
      ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h)
endif()
if(LibTorch_INCLUDE_DIR AND EXISTS ${_kvlab_version_file})
  set(LibTorch_VERSION "")
  foreach(_kvlab_part MAJOR MINOR PATCH)
    file(STRINGS ${_kvlab_version_file} _kvlab_line REGEX "define TORCH_VERSION_${_kvlab_part} ")
    string(REGEX REPLACE ".*_${_kvlab_part} +([0-9]+).*" "\\1" _kvlab_line "${_kvlab_line}")
    list(APPEND LibTorch_VERSION "${_kvlab_line}")
  endforeach()
  list(JOIN LibTorch_VERSION "." LibTorch_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
  "Run tools/setup, which installs PyPI torch into .deps/venv, or give -DKVLAB_TORCH_ROOT=FOLDER with include/ and lib/ in it.")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR}
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR})
  add_library(LibTorch::cpu SHARED IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR}
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES LibTorch::c10)
  # The CPU library of a CUDA build names CUDA libraries that its own run path finds.
  set_property(TARGET LibTorch::cpu APPEND PROPERTY
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  message(STATUS "LibTorch ${LibTorch_VERSION}: ${LibTorch_CPU_LIBRARY}")
endif()
