# Everything of the runner but its verbs: the command line, the daemon, the queue of jobs.
find_package(Threads REQUIRED)
add_library(service STATIC
  src/client.cpp
  src/command_line.cpp
  src/connection.cpp
  src/daemon.cpp
  src/events.cpp
  src/jobs.cpp
  src/requests.cpp
  src/run_folder.cpp
  src/server.cpp
  src/sockets.cpp
  src/starter.cpp)
target_link_libraries(service PUBLIC readers Threads::Threads)
