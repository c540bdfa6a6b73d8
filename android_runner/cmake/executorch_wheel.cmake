# ExecuTorch as its wheel has it. EXECUTORCH_ROOT is the folder `executorch` of an unpacked or installed wheel; unless
# given, that of the Python on the path.
if(NOT EXECUTORCH_ROOT)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u; print(u.find_spec('executorch').submodule_search_locations[0])"
    OUTPUT_VARIABLE EXECUTORCH_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()
find_package(executorch 1.5 CONFIG REQUIRED PATHS ${EXECUTORCH_ROOT}/share/cmake NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
string(REGEX REPLACE "\\+.*" "" EXECUTORCH_VERSION "${EXECUTORCH_BUILD_VERSION}")  # as Python names it

# The package's imported targets need CMake 3.28; its libraries by path work with every version. Those that only register
# kernels must be kept although nothing refers to them.
target_include_directories(executorch_engine SYSTEM PUBLIC ${EXECUTORCH_INCLUDE_DIRS})
target_compile_definitions(executorch_engine PUBLIC ${EXECUTORCH_COMPILE_DEFINITIONS})
target_link_options(executorch_engine INTERFACE -Wl,--no-as-needed)
foreach(part executorch executorch_kernels_optimized executorch_backend_xnnpack executorch_threadpool)
  target_link_libraries(executorch_engine PUBLIC ${EXECUTORCH_RUNTIME_LIBRARY_DIR}/lib${part}.so)
endforeach()
