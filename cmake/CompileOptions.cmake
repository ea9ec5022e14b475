set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")  # asserts stay on: they guard our own mistakes, outside the inner loops

set(VLGTR_SANITIZE "" CACHE STRING "sanitizers to build with, as for -fsanitize= (address,undefined or thread)")

# Contraction off: a fused multiply-add is written where it is meant, so the bits do not hang on the optimiser's mood.
add_compile_options("$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Werror;-Wshadow;-Wpointer-arith;-Wstrict-prototypes;\
-Wmissing-prototypes;-Wvla;-Wwrite-strings;-ffp-contract=off;-fno-math-errno>")
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-ffp-contract=off;-fno-math-errno>")
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror;\
-Xptxas=-v,-warn-spills,-warn-lmem-usage,-Werror>")
include_directories(${CMAKE_SOURCE_DIR})
if(VLGTR_SANITIZE)
  add_compile_options(-fsanitize=${VLGTR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${VLGTR_SANITIZE})
endif()
