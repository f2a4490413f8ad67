# What `cmake --install` puts where, and the package that find_package(kvlab) reads: from the install
# prefix, which may be moved, or from the build folder with -Dkvlab_DIR=<build folder>.
include(CMakePackageConfigHelpers)

set(KVLAB_PACKAGE_FOLDER lib/cmake/kvlab)
get_filename_component(KVLAB_TORCH_FOLDER ${LibTorch_INCLUDE_DIR} DIRECTORY)
get_filename_component(KVLAB_TORCH_LIBRARIES ${LibTorch_CPU_LIBRARY} DIRECTORY)
string(REGEX MATCH "^[0-9]+" KVLAB_COMPILER_MAJOR "${CMAKE_CXX_COMPILER_VERSION}")

set_target_properties(kvlab_framework PROPERTIES EXPORT_NAME framework
  INSTALL_RPATH "$ORIGIN;${KVLAB_TORCH_LIBRARIES}")
install(TARGETS kvlab_framework EXPORT kvlabTargets LIBRARY DESTINATION lib)
install(DIRECTORY framework/include/kvlab DESTINATION include FILES_MATCHING PATTERN "*.h")
install(FILES ${KVLAB_GENERATED_INCLUDE}/kvlab/runtime/headers_hash.h
  DESTINATION include/kvlab/runtime)
set(programs kvlab)

if(TARGET kvlab_conformance)
  set_target_properties(kvlab_conformance PROPERTIES EXPORT_NAME conformance)
  install(TARGETS kvlab_conformance EXPORT kvlabConformanceTargets ARCHIVE DESTINATION lib)
  install(DIRECTORY tests/conformance/include/kvlab DESTINATION include
          FILES_MATCHING PATTERN "*.h")
  install(EXPORT kvlabConformanceTargets NAMESPACE kvlab:: DESTINATION ${KVLAB_PACKAGE_FOLDER})
  export(EXPORT kvlabConformanceTargets NAMESPACE kvlab::
         FILE ${CMAKE_BINARY_DIR}/kvlabConformanceTargets.cmake)
  list(APPEND programs kvlab_conformance_tests)
endif()

set_target_properties(${programs} PROPERTIES
  INSTALL_RPATH "$ORIGIN/../lib;${KVLAB_TORCH_LIBRARIES}")
install(TARGETS ${programs} RUNTIME DESTINATION bin)

install(EXPORT kvlabTargets NAMESPACE kvlab:: DESTINATION ${KVLAB_PACKAGE_FOLDER})
export(EXPORT kvlabTargets NAMESPACE kvlab:: FILE ${CMAKE_BINARY_DIR}/kvlabTargets.cmake)

# Not INSTALL_PREFIX: the folder that the file is found in decides.
set(KVLAB_PROGRAMS bin)
set(KVLAB_MODULES ${KVLAB_PACKAGE_FOLDER})
set(KVLAB_HEADERS include)
set(KVLAB_SOURCE_HEADERS "")
configure_package_config_file(cmake/kvlabConfig.cmake.in
  ${CMAKE_BINARY_DIR}/install/kvlabConfig.cmake INSTALL_DESTINATION ${KVLAB_PACKAGE_FOLDER}
  PATH_VARS KVLAB_PROGRAMS KVLAB_MODULES KVLAB_HEADERS)
set(KVLAB_MODULES ${CMAKE_CURRENT_SOURCE_DIR}/cmake)
set(KVLAB_HEADERS ${KVLAB_GENERATED_INCLUDE})
set(KVLAB_SOURCE_HEADERS ${CMAKE_CURRENT_SOURCE_DIR}/framework/include)
configure_package_config_file(cmake/kvlabConfig.cmake.in ${CMAKE_BINARY_DIR}/kvlabConfig.cmake
  INSTALL_DESTINATION ${CMAKE_BINARY_DIR} INSTALL_PREFIX ${CMAKE_BINARY_DIR}
  PATH_VARS KVLAB_PROGRAMS KVLAB_MODULES KVLAB_HEADERS)
# A fingerprint fits one version only.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/kvlabConfigVersion.cmake
  COMPATIBILITY ExactVersion)
install(FILES ${CMAKE_BINARY_DIR}/install/kvlabConfig.cmake
  ${CMAKE_BINARY_DIR}/kvlabConfigVersion.cmake cmake/KvlabPlugin.cmake cmake/FindLibTorch.cmake
  DESTINATION ${KVLAB_PACKAGE_FOLDER})
