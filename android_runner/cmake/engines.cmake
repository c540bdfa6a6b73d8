# What runs blocks, and the engines that do.
add_library(engines STATIC engines/engine.cpp)
target_link_libraries(engines PUBLIC core)
if(NOT RUNNER_ENGINES)
  return()
endif()

add_library(executorch_engine STATIC engines/buffers.cpp engines/executorch_engine.cpp)
target_link_libraries(executorch_engine PUBLIC core)
if(ANDROID)
  include(cmake/executorch_built.cmake)
else()
  include(cmake/executorch_wheel.cmake)
endif()
target_compile_definitions(executorch_engine PRIVATE EXECUTORCH_VERSION="${EXECUTORCH_VERSION}")

target_compile_definitions(engines PRIVATE RUNNER_EXECUTORCH)
target_link_libraries(engines PRIVATE executorch_engine)

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
