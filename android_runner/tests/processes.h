// Programs that a test runs, and the daemons that these leave behind.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "asking.h"
#include "daemon/sockets.h"
#include "folder.h"

namespace adaptivenet {

// A program that runs, with pipes for its output.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command, const std::filesystem::path& folder = "/");
  ~Process();  // kills it
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t id() const { return id_; }

  // The next line it prints, without its line break; "" at the end.
  std::string line();

  // Reads its output to the end, which comes when nobody holds the pipes any more, and returns its exit status
  // (128 + the signal when one ended it).
  int wait();
  void close_output() { out_.reset(); }  // the reader goes

  std::string out() const { return printed_; }  // what has been read of stdout
  std::string err() const { return errors_; }

 private:
  bool read_some();

  pid_t id_ = -1;
  Fd out_;
  Fd err_;
  std::string printed_;
  std::string errors_;
  std::size_t line_begin_ = 0;
};

// HOME of a test, where runner-echo is called.
class Home {
 public:
  Home();
  ~Home();  // kills every process that has its path on the command line

  const std::filesystem::path& path() const { return path_; }

  std::vector<std::string> command(const std::string& request, int idle = 300) const;
  Process call(const Json& request, int idle = 300) const { return Process(command(request.dump(), idle)); }

  // The events that a call prints, which must end with `status`.
  std::vector<Json> ask(const Json& request, int status = 0, int idle = 300) const;

  // The process id of the daemon, which is started if need be.
  pid_t daemon(int idle = 300);

  std::string file(const char* name) const;  // its content, "" when it is missing

 private:
  Folder folder_;
  std::filesystem::path path_;
  int next_ = 100000;
};

// Waits until a daemon has ended and returns its exit status, or 128 + the signal. This process gets it because it
// becomes the parent of daemons whose own parent has ended.
int wait_for_end(pid_t daemon);

// Whether a socket of this name is in the abstract namespace.
bool socket_exists(const std::string& name);

std::vector<Json> events_in(const std::string& lines);

}  // namespace adaptivenet
