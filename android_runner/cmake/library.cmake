# libadaptivenet: core, engines and serving behind the C interface of include/adaptivenet, for any program.
#
#   cmake --install build/runner/host --prefix PREFIX
#
# puts it there with the libraries of its engines, its headers, and what find_package(adaptivenet) looks for.
if(NOT RUNNER_ENGINES)
  return()
endif()
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

add_library(adaptivenet SHARED serving/abi.cpp)
target_include_directories(adaptivenet PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(adaptivenet PRIVATE serving executorch_engine)
target_compile_options(adaptivenet PRIVATE -fvisibility=hidden -fvisibility-inlines-hidden)
target_link_options(adaptivenet PRIVATE -Wl,--exclude-libs,ALL)  # nothing but the C interface is seen from outside
string(REGEX MATCH "^[0-9.]+" VERSION_OF_PACKAGE ${RUNNER_VERSION})
set_target_properties(adaptivenet PROPERTIES
  SOVERSION 0
  BUILD_RPATH "${EXECUTORCH_RUNTIME_LIBRARY_DIR};${CMAKE_BINARY_DIR}"
  INSTALL_RPATH "$ORIGIN")

set(CONFIG_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/adaptivenet)
install(TARGETS adaptivenet EXPORT adaptivenet-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/adaptivenet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT adaptivenet-targets NAMESPACE adaptivenet:: DESTINATION ${CONFIG_FOLDER})
file(WRITE ${CMAKE_BINARY_DIR}/adaptivenet-config.cmake
  "include(\${CMAKE_CURRENT_LIST_DIR}/adaptivenet-targets.cmake)\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/adaptivenet-config-version.cmake
  VERSION ${VERSION_OF_PACKAGE} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/adaptivenet-config.cmake ${CMAKE_BINARY_DIR}/adaptivenet-config-version.cmake
  DESTINATION ${CONFIG_FOLDER})

# The engines' libraries, under the names by which they are looked for. Those of Android are in libadaptivenet.
if(NOT ANDROID)
  foreach(part executorch executorch_kernels_optimized executorch_backend_xnnpack executorch_threadpool)
    install(FILES ${EXECUTORCH_RUNTIME_LIBRARY_DIR}/lib${part}.so DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endforeach()
endif()
if(ONNXRUNTIME_INCLUDE)
  install(FILES ${ONNXRUNTIME_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME libonnxruntime.so.1)
endif()
