// The one thread pool of ExecuTorch in this process. Its wheel carries the library but not the header, so what is used
// of it is declared here: the signatures of extension/threadpool/threadpool.h of ExecuTorch 1.5.
#pragma once

#include <cstddef>
#include <cstdint>

namespace executorch::extension::threadpool {

class ThreadPool {
 public:
  std::size_t get_thread_count() const;
  [[nodiscard]] bool _unsafe_reset_threadpool(std::uint32_t threads);  // no program may be loaded
};

ThreadPool* get_threadpool();

}  // namespace executorch::extension::threadpool
