# The command line, the daemon, the queue of jobs.
find_package(Threads REQUIRED)
add_library(daemon STATIC
  daemon/client.cpp
  daemon/command_line.cpp
  daemon/connection.cpp
  daemon/daemon.cpp
  daemon/events.cpp
  daemon/jobs.cpp
  daemon/last_words.cpp
  daemon/requests.cpp
  daemon/run_folder.cpp
  daemon/server.cpp
  daemon/sockets.cpp
  daemon/starter.cpp)
target_link_libraries(daemon PUBLIC core Threads::Threads)

add_library(verbs STATIC daemon/costs.cpp daemon/verbs.cpp)
target_link_libraries(verbs PUBLIC evaluate PRIVATE android)
if(NOT RUNNER_ENGINES)
  return()
endif()

add_executable(adaptivenet-runner daemon/main.cpp)
target_link_libraries(adaptivenet-runner PRIVATE verbs daemon)
if(ANDROID)
  set(CMAKE_EXECUTABLE_RUNTIME_CXX_FLAG "-Wl,-rpath,")  # CMake has none for Android, and would leave BUILD_RPATH out
endif()
set_target_properties(adaptivenet-runner PROPERTIES
  BUILD_RPATH "$ORIGIN;${EXECUTORCH_RUNTIME_LIBRARY_DIR}"
  INSTALL_RPATH "$ORIGIN")

if(RUNNER_TESTS AND NOT CMAKE_CROSSCOMPILING)
  foreach(bench overhead paging)
    add_executable(runner-${bench} bench/${bench}.cpp)
    target_link_libraries(runner-${bench} PRIVATE serving executorch_engine)
    set_target_properties(runner-${bench} PROPERTIES BUILD_RPATH "${EXECUTORCH_RUNTIME_LIBRARY_DIR};${CMAKE_BINARY_DIR}")
  endforeach()
endif()
