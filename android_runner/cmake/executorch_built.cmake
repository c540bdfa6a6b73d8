# ExecuTorch as its own build installs it, for Android. EXECUTORCH_ROOT is the prefix that it was installed to; it needs
# XNNPACK, the optimized kernels, and the extensions module, tensor, data_loader and threadpool.
if(NOT EXECUTORCH_ROOT)
  message(FATAL_ERROR "give -DEXECUTORCH_ROOT=PREFIX, where an ExecuTorch built with this NDK was installed; see docs/phone.md")
endif()
find_package(executorch CONFIG REQUIRED PATHS ${EXECUTORCH_ROOT} NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
file(STRINGS ${EXECUTORCH_ROOT}/include/executorch/runtime/core/version.h EXECUTORCH_VERSION REGEX "define ET_VERSION \"")
string(REGEX REPLACE ".*\"(.+)\".*" "\\1" EXECUTORCH_VERSION "${EXECUTORCH_VERSION}")
# As it installs them: the names with colons, executorch::backends and so on, exist within its own build only.
target_link_libraries(executorch_engine
  PUBLIC executorch executorch_backends executorch_extensions executorch_kernels extension_threadpool)
