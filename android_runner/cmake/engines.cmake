# The engines, and the program made of everything.

add_library(executorch_engine STATIC src/executorch_engine.cpp)
target_link_libraries(executorch_engine PUBLIC readers)
if(ANDROID)
  include(cmake/executorch_built.cmake)
else()
  include(cmake/executorch_wheel.cmake)
endif()
target_compile_definitions(executorch_engine PRIVATE EXECUTORCH_VERSION="${EXECUTORCH_VERSION}")

add_library(runner STATIC
  src/controller.cpp
  src/base64.cpp
  src/engine.cpp
  src/fields.cpp
  src/images.cpp
  src/interpreter.cpp
  src/kept.cpp
  src/machine.cpp
  src/runner.cpp
  src/session.cpp)
target_link_libraries(runner PUBLIC readers PRIVATE executorch_engine)

# ONNX Runtime, when its headers and its library are given. Debian's libonnxruntime-dev has the headers, the library of
# a newer wheel (onnxruntime/capi/libonnxruntime.so.VERSION) serves them as well.
set(ONNXRUNTIME_INCLUDE "" CACHE PATH "Folder with onnxruntime_cxx_api.h; without, the runner has no ONNX Runtime")
set(ONNXRUNTIME_LIBRARY "" CACHE FILEPATH "libonnxruntime.so")
if(ONNXRUNTIME_INCLUDE)
  if(NOT EXISTS "${ONNXRUNTIME_LIBRARY}")
    message(FATAL_ERROR "ONNXRUNTIME_INCLUDE is given; give ONNXRUNTIME_LIBRARY as well, the path of libonnxruntime.so")
  endif()
  target_sources(runner PRIVATE src/onnxruntime_engine.cpp)
  target_compile_definitions(runner PRIVATE RUNNER_ONNXRUNTIME)
  target_include_directories(runner SYSTEM PRIVATE ${ONNXRUNTIME_INCLUDE})
  # The file may have a longer name than the one that programs look for.
  file(CREATE_LINK ${ONNXRUNTIME_LIBRARY} ${CMAKE_BINARY_DIR}/libonnxruntime.so.1 SYMBOLIC)
  target_link_libraries(runner PRIVATE ${CMAKE_BINARY_DIR}/libonnxruntime.so.1)
endif()

add_executable(adaptivenet-runner src/main.cpp)
target_link_libraries(adaptivenet-runner PRIVATE runner service)
if(ANDROID)
  set(CMAKE_EXECUTABLE_RUNTIME_CXX_FLAG "-Wl,-rpath,")  # CMake has none for Android, and would leave BUILD_RPATH out
endif()
set_target_properties(adaptivenet-runner PROPERTIES
  BUILD_RPATH "$ORIGIN;${EXECUTORCH_RUNTIME_LIBRARY_DIR}"
  INSTALL_RPATH "$ORIGIN")

if(RUNNER_TESTS AND NOT CMAKE_CROSSCOMPILING)
  add_executable(runner-overhead bench/overhead.cpp)
  target_link_libraries(runner-overhead PRIVATE runner executorch_engine)
  set_target_properties(runner-overhead PROPERTIES BUILD_RPATH "${EXECUTORCH_RUNTIME_LIBRARY_DIR}")
endif()
