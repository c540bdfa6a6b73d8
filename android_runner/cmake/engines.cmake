# The engines, and the program made of everything.

add_library(executorch_engine STATIC engines/buffers.cpp engines/executorch_engine.cpp)
target_link_libraries(executorch_engine PUBLIC core)
if(ANDROID)
  include(cmake/executorch_built.cmake)
else()
  include(cmake/executorch_wheel.cmake)
endif()
target_compile_definitions(executorch_engine PRIVATE EXECUTORCH_VERSION="${EXECUTORCH_VERSION}")

add_library(engines STATIC engines/engine.cpp)
target_link_libraries(engines PUBLIC core PRIVATE executorch_engine)

# ONNX Runtime, when its headers and its library are given. Debian's libonnxruntime-dev has the headers, the library of
# a newer wheel (onnxruntime/capi/libonnxruntime.so.VERSION) serves them as well.
set(ONNXRUNTIME_INCLUDE "" CACHE PATH "Folder with onnxruntime_cxx_api.h; without, the runner has no ONNX Runtime")
set(ONNXRUNTIME_LIBRARY "" CACHE FILEPATH "libonnxruntime.so")
if(ONNXRUNTIME_INCLUDE)
  if(NOT EXISTS "${ONNXRUNTIME_LIBRARY}")
    message(FATAL_ERROR "ONNXRUNTIME_INCLUDE is given; give ONNXRUNTIME_LIBRARY as well, the path of libonnxruntime.so")
  endif()
  target_sources(engines PRIVATE engines/onnxruntime_engine.cpp)
  target_compile_definitions(engines PRIVATE RUNNER_ONNXRUNTIME)
  target_include_directories(engines SYSTEM PRIVATE ${ONNXRUNTIME_INCLUDE})
  # The file may have a longer name than the one that programs look for.
  file(CREATE_LINK ${ONNXRUNTIME_LIBRARY} ${CMAKE_BINARY_DIR}/libonnxruntime.so.1 SYMBOLIC)
  target_link_libraries(engines PRIVATE ${CMAKE_BINARY_DIR}/libonnxruntime.so.1)
endif()

add_library(evaluate STATIC
  evaluate/images.cpp
  evaluate/interpreter.cpp
  evaluate/kept.cpp
  evaluate/stopwatch.cpp)
target_link_libraries(evaluate PUBLIC engines)

add_library(android STATIC android/machine.cpp)
target_link_libraries(android PUBLIC core)

add_library(serving STATIC
  serving/controller.cpp
  serving/runner.cpp
  serving/session.cpp)
target_link_libraries(serving PUBLIC evaluate PRIVATE android)

add_executable(adaptivenet-runner daemon/main.cpp)
target_link_libraries(adaptivenet-runner PRIVATE serving daemon)
if(ANDROID)
  set(CMAKE_EXECUTABLE_RUNTIME_CXX_FLAG "-Wl,-rpath,")  # CMake has none for Android, and would leave BUILD_RPATH out
endif()
set_target_properties(adaptivenet-runner PROPERTIES
  BUILD_RPATH "$ORIGIN;${EXECUTORCH_RUNTIME_LIBRARY_DIR}"
  INSTALL_RPATH "$ORIGIN")

if(RUNNER_TESTS AND NOT CMAKE_CROSSCOMPILING)
  add_executable(runner-overhead bench/overhead.cpp)
  target_link_libraries(runner-overhead PRIVATE evaluate executorch_engine)
  set_target_properties(runner-overhead PROPERTIES BUILD_RPATH "${EXECUTORCH_RUNTIME_LIBRARY_DIR}")
endif()
