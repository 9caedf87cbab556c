option(MHA2MLA_UNITY "Compile eight sources of a target at a time" OFF)

# Full builds take half the time, because files of a room include and instantiate the same; a change
# of one file compiles its eight. Files of such a target share the names in their unnamed namespaces.
function(mha2mla_unity target)
  if(MHA2MLA_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  endif()
endfunction()

# A static library of the .cpp files of the given folders (not of their subfolders).
function(mha2mla_library name)
  set(sources "")
  foreach(folder ${ARGN})
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
    list(APPEND sources ${found})
  endforeach()
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:mha2mla_warnings>)
endfunction()
