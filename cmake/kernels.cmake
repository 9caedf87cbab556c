# Hot kernels are compiled once per instruction set, each into its own namespace, and chosen at run
# time (kernels/registry.cpp). Nothing else in the program is compiled above the baseline.
file(GLOB isa_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/autograd/kernels/cpu/isa/*.cpp)
set(isa_flags_baseline -march=x86-64-v2)
set(isa_flags_avx2 -march=x86-64-v3)
set(isa_flags_avx512 -march=x86-64-v4)
# AMX beside AVX-512: a folder of its own, for bf16 alone.
file(GLOB amx_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/autograd/kernels/cpu/amx/*.cpp)
set(isa_flags_amx -march=x86-64-v4 -mavx512bf16 -mamx-tile -mamx-bf16)

file(GLOB kernel_sources CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/autograd/kernels/*.cpp ${CMAKE_SOURCE_DIR}/autograd/kernels/cpu/*.cpp)
add_library(kernels STATIC ${kernel_sources})
target_include_directories(kernels PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(kernels PUBLIC tensor PRIVATE openblas onednn OpenMP::OpenMP_CXX
                                                    $<BUILD_INTERFACE:mha2mla_warnings>)

foreach(isa baseline avx2 avx512 amx)
  if(isa STREQUAL amx)
    add_library(kernels_${isa} OBJECT ${amx_sources})
  else()
    add_library(kernels_${isa} OBJECT ${isa_sources})
  endif()
  target_compile_definitions(kernels_${isa} PRIVATE AG_ISA=${isa})
  # The loops are written for the vectoriser; contraction to fused multiply-add is wanted.
  target_compile_options(kernels_${isa} PRIVATE ${isa_flags_${isa}} -O3 -ffp-contract=fast -fno-math-errno)
  target_link_libraries(kernels_${isa} PRIVATE tensor OpenMP::OpenMP_CXX mha2mla_warnings)
  target_sources(kernels PRIVATE $<TARGET_OBJECTS:kernels_${isa}>)
endforeach()
