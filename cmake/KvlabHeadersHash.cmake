# The hash of the framework's public headers: part of a plugin's fingerprint, since what was compiled
# with others lays out classes differently, whatever the version says.

# kvlab_headers_hash(FOLDER RESULT): 12 hex digits. CMake runs again where a header changes.
function(kvlab_headers_hash folder result)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${folder}/*.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${headers})
  set(hashes "")
  foreach(header ${headers})
    file(SHA256 ${header} hash)
    string(APPEND hashes ${hash})
  endforeach()
  string(SHA256 hash "${hashes}")
  string(SUBSTRING ${hash} 0 12 hash)
  set(${result} ${hash} PARENT_SCOPE)
endfunction()
