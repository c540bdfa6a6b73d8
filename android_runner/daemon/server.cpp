#include "daemon/server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <vector>

#include "core/quote.h"
#include "daemon/events.h"

namespace adaptivenet {
namespace {

constexpr std::size_t kMostClients = 64;

Fd make_eventfd() {
  Fd fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!fd) throw DeviceError(system_error("make an eventfd"));
  return fd;
}

void ring(int eventfd) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(eventfd, &one, sizeof one);  // fails only when it is readable already
}

}  // namespace

Server::Server(RunFolder& folder, Handler handler, Limits limits, int stop)
    : folder_(folder),
      limits_(limits),
      stop_(stop),
      changed_(make_eventfd()),
      jobs_(
          std::move(handler), [fd = changed_.get()] { ring(fd); }, limits.job_bytes),
      now_(Clock::now()),
      quiet_since_(now_) {
  const std::string name = random_name();
  listener_ = listen_at(name);
  folder_.publish(name);
}

Server::~Server() { folder_.withdraw(); }

bool Server::run() {
  for (;;) {
    now_ = Clock::now();
    if (!ending() && clients_.empty() && now_ - quiet_since_ >= limits_.idle) begin_to_end("nobody has called");
    const bool idle = jobs_.idle();  // asked before the events are sent, so that no event comes after
    const bool late = now_ >= end_by_;
    if (ending() && (idle || late)) {
      for (Connection& client : clients_) {
        if (client.held()) client.answer(event_line("", 0, {{"type", "result"}}));
      }
    }
    send_to_clients();
    if (late || (ending() && idle && clients_.empty())) return idle;
    wait();
  }
}

void Server::begin_to_end(const char* reason) {
  if (ending()) return;
  std::fprintf(stderr, "ending: %s\n", reason);
  end_by_ = now_ + limits_.grace;
  jobs_.cancel();
  folder_.withdraw();
  // A client whose request was not read sees a broken connection, not the end of an answer, and calls another daemon.
  listener_.reset();
  clients_.remove_if([](const Connection& client) { return client.reading(); });
}

void Server::wait() {
  const bool room = clients_.size() < kMostClients;
  std::vector<pollfd> polled = {
      {changed_.get(), POLLIN, 0}, {ending() ? -1 : stop_, POLLIN, 0}, {room ? listener_.get() : -1, POLLIN, 0}};
  for (const Connection& client : clients_) polled.push_back({client.fd(), client.wants(), 0});
  if (poll(polled.data(), polled.size(), milliseconds_to_wait()) <= 0) return;
  now_ = Clock::now();

  if (polled[0].revents != 0) {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t size = ::read(changed_.get(), &count, sizeof count);
  }
  auto event = polled.begin() + 3;
  for (auto client = clients_.begin(); client != clients_.end(); ++event) {
    if (client->reading()) {
      if (event->revents != 0 && client->read(now_)) take_request(*client);
      ++client;
    } else {
      // A client that has closed only its sending side still listens: it is not gone.
      client = event->revents & (POLLHUP | POLLERR) ? clients_.erase(client) : std::next(client);
      if (clients_.empty()) quiet_since_ = now_;
    }
  }
  const bool held =
      std::any_of(clients_.begin(), clients_.end(), [](const Connection& client) { return client.held(); });
  if (held) begin_to_end("told to by a request");
  if (polled[1].revents != 0) begin_to_end("told to by a signal");
  if (polled[2].revents != 0 && !ending()) take_clients();
}

int Server::milliseconds_to_wait() const {
  Clock::time_point until = ending() ? end_by_ : now_ + std::chrono::hours(1);
  if (!ending() && clients_.empty()) until = std::min(until, quiet_since_ + limits_.idle);
  for (const Connection& client : clients_) until = std::min(until, client.quiet_since(now_) + limits_.idle);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now_).count();
  return static_cast<int>(std::max<decltype(left)>(left, 0));
}

void Server::take_clients() {
  while (clients_.size() < kMostClients) {
    Fd socket = accept_from(listener_);
    if (!socket) return;
    clients_.emplace_back(std::move(socket), now_);
  }
}

void Server::take_request(Connection& client) {
  try {
    if (client.too_long()) {
      throw ProtocolError("the request is longer than " + std::to_string(kLongestRequest) + " bytes");
    }
    Request request = read_request(client.request());
    if (request.kind == Request::Kind::kStop) {
      client.hold();
      return;
    }
    if (request.kind == Request::Kind::kCancel) {
      std::fprintf(stderr, "job %s: cancelled\n", request.job.c_str());
      client.answer(event_line("", 0, {{"type", "result"}, {"cancelled", jobs_.cancel(request.job)}}));
      return;
    }
    const std::uint64_t from = request.from;
    std::fprintf(stderr, "job %s: %s\n", request.job.c_str(), shown(request.body["verb"]).c_str());
    client.follow(jobs_.submit(std::move(request)), from);
  } catch (const std::exception& error) {
    client.answer(event_line("", 0, error_event(error)));
  }
}

void Server::send_to_clients() {
  for (auto client = clients_.begin(); client != clients_.end();) {
    const bool stuck = now_ - client->quiet_since(now_) >= limits_.idle;
    const bool goes = stuck || !client->send(jobs_, now_);
    client = goes ? clients_.erase(client) : std::next(client);
    if (clients_.empty()) quiet_since_ = now_;
  }
}

}  // namespace adaptivenet
