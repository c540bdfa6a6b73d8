# ExecuTorch as its own build installs it, for Android. EXECUTORCH_ROOT is the prefix that it was installed to; it needs
# XNNPACK, the optimized kernels, and the extensions module, tensor, data_loader and threadpool.
if(NOT EXECUTORCH_ROOT)
  message(FATAL_ERROR "give -DEXECUTORCH_ROOT=PREFIX, where an ExecuTorch built with this NDK was installed; see docs/phone.md")
endif()
find_package(executorch CONFIG REQUIRED PATHS ${EXECUTORCH_ROOT} NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
set(EXECUTORCH_VERSION 1.5 CACHE STRING "The version that EXECUTORCH_ROOT was built from")
target_link_libraries(executorch_engine
  PUBLIC executorch executorch::backends executorch::extensions executorch::kernels)
