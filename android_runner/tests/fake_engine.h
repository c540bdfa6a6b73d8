// An engine whose programs are arithmetic, for what no real engine does on purpose: it fails when it is told to, counts
// what is loaded, and notices when scratch memory is used by two threads at once. ThreadSanitizer sees all of it.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "core/pack.h"
#include "engines/engine.h"

namespace adaptivenet {

class FakeEngine final : public Engine {
 public:
  // Called with the name of a block before it is loaded, on the thread that loads. What it throws, the load throws.
  std::function<void(const std::string& block)> before_load = [](const std::string&) {};
  std::function<void()> before_run = [] {};
  bool joins = false;                 // as ONNX Runtime makes one program of several
  std::atomic<int> loaded = 0;        // programs that exist
  std::atomic<int> scratches = 0;     // scratch memories that exist
  std::atomic<int> loads = 0;         // that were begun
  std::atomic<bool> clashed = false;  // scratch memory was used by two threads at once, or a program was

  std::string name() const override { return "fake"; }
  std::string version() const override { return "0"; }
  std::string backend() const override { return "onnx"; }
  int threads() const override { return 1; }
  bool assembles() const override { return joins; }
  ScratchPtr scratch() override;
  std::unique_ptr<Program> load(const std::string& what, MappedFile file, Layout layout, const Signature& signature,
                                const ScratchPtr& scratch) override;
  std::unique_ptr<Program> assemble(const std::vector<Part>& parts, const std::vector<TensorType>& cuts) override;
  FeaturePtr empty(const TensorType& type, Layout layout, bool of_chain) override;
  void write(Feature& feature, const std::byte* data, Layout given) override;
  void read(const Feature& feature, std::byte* to, Layout wanted) override;
  TensorType type_of(const Feature& feature) override;
};

// A pack for it in a new folder: `folder`/manifest.json and `folder`/blobs. The graph is that of tiny_pack.h, and the
// artifact of each block has bytes of its own: so many times 100 as the block is listed at, from 1.
Pack write_fake_pack(const std::filesystem::path& folder);

}  // namespace adaptivenet
