# The tests of the daemon, with verbs made for them.
add_library(echo STATIC echo.cpp)
target_link_libraries(echo PUBLIC daemon)

add_executable(request-tests
  requests_test.cpp
  run_folder_test.cpp)
target_link_libraries(request-tests PRIVATE echo GTest::gtest_main)
target_precompile_headers(request-tests REUSE_FROM test-headers)
gtest_discover_tests(request-tests)

add_executable(queue-tests
  jobs_test.cpp
  server_test.cpp)
target_link_libraries(queue-tests PRIVATE echo GTest::gtest_main)
target_precompile_headers(queue-tests REUSE_FROM test-headers)
if(CMAKE_CROSSCOMPILING_EMULATOR)
  # The server's tests wait for seconds in which QEMU, which is many times slower, is not done.
  gtest_discover_tests(queue-tests TEST_FILTER "-ServerTest.*")
else()
  gtest_discover_tests(queue-tests)
endif()

# The daemon is tested as a process: runner-echo is the runner with those verbs. Not under QEMU's user mode, which runs
# one program: a program that this one starts is the kernel's to run, which as a rule cannot. Nor does QEMU 7.2 know
# PR_SET_CHILD_SUBREAPER, by which the tests learn how a daemon has ended.
if(NOT CMAKE_CROSSCOMPILING_EMULATOR)
  add_executable(runner-echo echo_runner.cpp)
  target_link_libraries(runner-echo PRIVATE echo)
  add_executable(daemon-tests
    call_test.cpp
    daemon_test.cpp
    processes.cpp)
  target_compile_definitions(daemon-tests PRIVATE RUNNER_ECHO="$<TARGET_FILE:runner-echo>")
  target_link_libraries(daemon-tests PRIVATE daemon GTest::gtest_main)
  target_precompile_headers(daemon-tests REUSE_FROM test-headers)
  add_dependencies(daemon-tests runner-echo)
  gtest_discover_tests(daemon-tests)
endif()
