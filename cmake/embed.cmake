# Puts a text file into a target, as `const std::string_view NAME` of the given header. A change of the file
# configures anew.
function(mha2mla_embed target file header name)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${file})
  file(READ ${CMAKE_SOURCE_DIR}/${file} text)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/embedded/${name}.cpp @ONLY CONTENT
"// Made from @file@.
#include \"@header@\"

namespace @target@ {
const std::string_view @name@ = R\"embedded(@text@)embedded\";
}  // namespace @target@
")
  target_sources(${target} PRIVATE ${CMAKE_BINARY_DIR}/embedded/${name}.cpp)
endfunction()
