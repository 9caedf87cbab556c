# `cmake --build --preset release --target format` rewrites every C++ file in the project's style.
find_program(CLANG_FORMAT clang-format)
if(CLANG_FORMAT)
  set(formatted "")
  foreach(folder core autograd model data trainer tests bench)
    file(GLOB_RECURSE found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.h ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
    list(APPEND formatted ${found})
  endforeach()
  add_custom_target(format COMMAND ${CLANG_FORMAT} -i ${formatted} VERBATIM)
else()
  add_custom_target(format COMMAND ${CMAKE_COMMAND} -E false
                    COMMENT "clang-format not found: apt-get install clang-format")
endif()
