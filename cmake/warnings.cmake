# Warnings are errors on our own code, and only there.
add_library(mha2mla_warnings INTERFACE)
target_compile_options(mha2mla_warnings INTERFACE
  -Wall -Wextra -Werror -Wnon-virtual-dtor -Woverloaded-virtual -Wunused -Wcast-align
  -Wconversion -Wno-sign-conversion -Wdouble-promotion -Wimplicit-fallthrough
  $<$<NOT:$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>>:-Wshadow>  # not of a neighbour's names
  -Wno-missing-field-initializers  # designated initialisers name what they set, on purpose
  -Wno-restrict)                   # g++ 12 warns falsely inside std::string

# No -ffast-math: isnan must tell the truth and sums must keep their order.
add_compile_options(-fno-math-errno -fno-trapping-math)

if(MHA2MLA_SANITIZE)
  add_compile_options(-fsanitize=${MHA2MLA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MHA2MLA_SANITIZE})
endif()
