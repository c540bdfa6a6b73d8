// Where the subnet that runs next lies. The loader puts another one there, the thread that infers takes it and gives it
// back: neither ever waits for the other, and between two inferences the newest one is taken.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "core/graph.h"
#include "engines/engine.h"
#include "serving/chain.h"

namespace adaptivenet {

// A subnet with everything that it takes to run it.
struct Ready {
  Subnet subnet;
  std::size_t point = 0;  // its index in the front; as large as can be for none
  Chain chain;
  Layout layout = Layout::kContiguous;  // in which it reads its input
  Ready* next = nullptr;                // in the list of those that are to be released
};
using ReadyPtr = std::unique_ptr<Ready>;

class Slot {
 public:
  Slot() = default;
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot() {
    delete lies_.load();
    while (Ready* first = given_up_.load()) {
      given_up_ = first->next;
      delete first;
    }
  }

  // For the loader. Puts a subnet there; returns the one that lay there, or null while that one runs: it is then given
  // up when its inference has ended.
  ReadyPtr put(ReadyPtr ready) { return ReadyPtr(lies_.exchange(ready.release())); }

  // For the loader: one of those that were given up, or null. All that programs take is released on its thread.
  ReadyPtr given_up() {
    Ready* first = given_up_.load();
    while (first != nullptr && !given_up_.compare_exchange_weak(first, first->next)) continue;
    return ReadyPtr(first);
  }

  // For one thread at a time: the subnet to run, or null when none has ever been put. It must be given back.
  Ready* take() { return lies_.exchange(nullptr); }

  // Whether it was given up: another one has come meanwhile.
  bool give_back(Ready* ready) {
    Ready* nothing = nullptr;
    if (lies_.compare_exchange_strong(nothing, ready)) return false;
    ready->next = given_up_.load();
    while (!given_up_.compare_exchange_weak(ready->next, ready)) continue;
    return true;
  }

 private:
  std::atomic<Ready*> lies_ = nullptr;
  std::atomic<Ready*> given_up_ = nullptr;
};

}  // namespace adaptivenet
