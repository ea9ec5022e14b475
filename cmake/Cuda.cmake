# The CUDA backend is built where a toolkit is found; the CPU backend is the embedded default and always there.
find_package(CUDAToolkit QUIET)
option(VLGTR_CUDA "build the CUDA backend" ${CUDAToolkit_FOUND})
set(ARCHITECTURES "80;90a")
if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)  # those before do not know the others
  list(APPEND ARCHITECTURES 100 120)
endif()
set(VLGTR_CUDA_ARCHITECTURES "${ARCHITECTURES}" CACHE STRING "GPU architectures to compile for: A100, H100, B200, RTX 50")
if(VLGTR_CUDA)
  find_package(CUDAToolkit REQUIRED)
  list(TRANSFORM VLGTR_CUDA_ARCHITECTURES APPEND -real OUTPUT_VARIABLE CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O2 -lineinfo")
  enable_language(CUDA)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
  enable_language(CXX)  # device code for the emulator (tests/emu)

  # Several GPUs talk through NCCL. The toolkit does not always bring it; without it a build is complete for one rank,
  # and several ranks on GPUs are refused at start with a sentence.
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib)
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    add_library(NCCL::nccl UNKNOWN IMPORTED)
    set_target_properties(NCCL::nccl PROPERTIES IMPORTED_LOCATION ${NCCL_LIBRARY}
                          INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR};${CUDAToolkit_INCLUDE_DIRS}")
  else()
    message(STATUS "NCCL not found: GPUs work alone in this build, several ranks on GPUs need nccl.h and libnccl")
  endif()
endif()
