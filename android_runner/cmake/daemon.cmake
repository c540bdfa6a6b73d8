# Everything of the runner but its verbs: the command line, the daemon, the queue of jobs.
find_package(Threads REQUIRED)
add_library(daemon STATIC
  daemon/client.cpp
  daemon/command_line.cpp
  daemon/connection.cpp
  daemon/daemon.cpp
  daemon/events.cpp
  daemon/jobs.cpp
  daemon/requests.cpp
  daemon/run_folder.cpp
  daemon/server.cpp
  daemon/sockets.cpp
  daemon/starter.cpp)
target_link_libraries(daemon PUBLIC core Threads::Threads)
