set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")  # asserts stay on: they guard our own mistakes, outside the inner loops

# The fuzzers alone are built by clang, too (tests/fuzz).
if(NOT CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT VLGTR_LIBFUZZER)
  message(FATAL_ERROR "${CMAKE_C_COMPILER_ID} cannot compile the kernels, which are written for GCC: configure with "
                      "-DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ in a new build folder")
endif()

# Debian 12's GCC has none to give; where another one warns: cmake --compile-no-warning-as-error.
set(CMAKE_COMPILE_WARNING_AS_ERROR ON)

set(VLGTR_SANITIZE "" CACHE STRING "sanitizers to build with, as for -fsanitize= (address,undefined or thread)")

# Contraction off: a fused multiply-add is written where it is meant, so the bits do not hang on the optimiser's mood.
add_compile_options("$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wshadow;-Wpointer-arith;-Wstrict-prototypes;\
-Wmissing-prototypes;-Wvla;-Wwrite-strings;-ffp-contract=off;-fno-math-errno>")
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-ffp-contract=off;-fno-math-errno>")
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;-Xptxas=-v,-warn-spills,-warn-lmem-usage,-Werror>")
include_directories(${CMAKE_SOURCE_DIR})
if(VLGTR_SANITIZE)
  add_compile_options(-fsanitize=${VLGTR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${VLGTR_SANITIZE})
endif()
