# The tests of the service. The daemon is tested as a process: runner-echo is the runner with verbs made for that.
add_library(echo STATIC echo.cpp)
target_link_libraries(echo PUBLIC service)
add_executable(runner-echo echo_runner.cpp)
target_link_libraries(runner-echo PRIVATE echo)

add_executable(service-tests
  jobs_test.cpp
  requests_test.cpp
  server_test.cpp)
target_link_libraries(service-tests PRIVATE echo GTest::gtest_main)
gtest_discover_tests(service-tests)

add_executable(daemon-tests
  call_test.cpp
  daemon_test.cpp
  processes.cpp)
target_compile_definitions(daemon-tests PRIVATE RUNNER_ECHO="$<TARGET_FILE:runner-echo>")
target_link_libraries(daemon-tests PRIVATE service GTest::gtest_main)
add_dependencies(daemon-tests runner-echo)
gtest_discover_tests(daemon-tests)
