#include "fake_engine.h"

#include <cstring>
#include <fstream>
#include <span>
#include <utility>

#include "core/json.h"
#include "core/sha256.h"
#include "tiny_pack.h"

namespace adaptivenet {
namespace {

// One thread at a time; another one is a mistake, not a reason to wait.
struct Alone {
  Alone(std::atomic<bool>& taken, std::atomic<bool>& clashed) : taken(taken) {
    if (taken.exchange(true)) clashed = true;
  }
  ~Alone() { taken = false; }
  std::atomic<bool>& taken;
};

struct FakeScratch final : Scratch {
  explicit FakeScratch(std::atomic<int>& count) : count(count) { ++count; }
  ~FakeScratch() override { --count; }
  std::atomic<int>& count;
  std::atomic<bool> taken = false;
};

struct FakeFeature final : Feature {
  explicit FakeFeature(TensorType of) : type(std::move(of)), values(elements_of(type.shape)) {}
  TensorType type;
  std::vector<float> values;
};

class FakeProgram final : public Program {
 public:
  FakeProgram(FakeEngine& engine, std::uint32_t seed, TensorType gives, std::shared_ptr<FakeScratch> scratch)
      : engine_(engine), seed_(seed), gives_(std::move(gives)), scratch_(std::move(scratch)) {
    ++engine_.loaded;
  }
  ~FakeProgram() override { --engine_.loaded; }

  FeaturePtr run(std::span<const FeaturePtr> operands, bool keep) override {
    const Alone in_program(runs_, engine_.clashed);
    const Alone in_scratch(scratch_->taken, engine_.clashed);
    engine_.before_run();
    auto made = std::make_shared<FakeFeature>(gives_);
    float sum = 0;
    for (const FeaturePtr& operand : operands) {
      for (const float value : static_cast<const FakeFeature&>(*operand).values) sum = sum / 2 + value;
    }
    for (std::size_t at = 0; at < made->values.size(); ++at) {
      made->values[at] = sum / 8 + static_cast<float>((seed_ + at) % 97);
    }
    return made;
  }

 private:
  FakeEngine& engine_;
  std::uint32_t seed_;
  TensorType gives_;
  std::shared_ptr<FakeScratch> scratch_;
  std::atomic<bool> runs_ = false;
};

std::uint32_t seed_of(const MappedFile& file) {
  std::uint32_t seed = 0;
  for (const std::byte byte : file.bytes()) seed = seed * 31 + static_cast<std::uint32_t>(byte);
  return seed;
}

}  // namespace

ScratchPtr FakeEngine::scratch() { return std::make_shared<FakeScratch>(scratches); }

std::unique_ptr<Program> FakeEngine::load(const std::string& what, MappedFile file, Layout layout,
                                          const Signature& signature, const ScratchPtr& scratch) {
  auto own = std::static_pointer_cast<FakeScratch>(scratch ? scratch : this->scratch());
  const Alone in_scratch(own->taken, clashed);
  ++loads;
  before_load(what.substr(7, what.size() - 8));
  return std::make_unique<FakeProgram>(*this, seed_of(file), signature.gives.front(), own);
}

std::unique_ptr<Program> FakeEngine::assemble(const std::vector<Part>& parts, const std::vector<TensorType>& cuts) {
  ++loads;
  std::uint32_t seed = 0;
  for (const Part& part : parts) {
    before_load(part.what.substr(7, part.what.size() - 8));
    seed = seed * 7 + seed_of(part.file);
  }
  return std::make_unique<FakeProgram>(*this, seed, cuts.at(parts.back().gives),
                                       std::make_shared<FakeScratch>(scratches));
}

FeaturePtr FakeEngine::empty(const TensorType& type, Layout layout, bool of_chain) {
  return std::make_shared<FakeFeature>(type);
}

void FakeEngine::write(Feature& feature, const std::byte* data, Layout given) {
  auto& to = static_cast<FakeFeature&>(feature);
  copy_in_layout(to.type.shape, sizeof(float), data, given, reinterpret_cast<std::byte*>(to.values.data()),
                 Layout::kContiguous);
}

void FakeEngine::read(const Feature& feature, std::byte* to, Layout wanted) {
  const auto& from = static_cast<const FakeFeature&>(feature);
  const auto* values = reinterpret_cast<const std::byte*>(from.values.data());
  if (from.type.shape.size() == 4) {
    copy_in_layout(from.type.shape, sizeof(float), values, Layout::kContiguous, to, wanted);
  } else {
    std::memcpy(to, values, from.values.size() * sizeof(float));
  }
}

TensorType FakeEngine::type_of(const Feature& feature) { return static_cast<const FakeFeature&>(feature).type; }

Pack write_fake_pack(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder / "blobs");
  Json manifest = tiny_manifest();
  std::size_t size = 0;
  for (Json& block : manifest["blocks"]) {
    size += 100;
    const std::string name = block["name"], content = name + std::string(size - name.size(), '.');
    Json& artifact = block["artifacts"]["onnx"];
    artifact["file"] = "blobs/" + sha256(std::as_bytes(std::span(content))) + ".onnx";
    artifact["bytes"] = size;
    std::ofstream(folder / artifact["file"].get<std::string>(), std::ios::binary) << content;
  }
  std::ofstream(folder / "manifest.json") << with_digest(manifest);
  return Pack::open(folder / "manifest.json", folder / "blobs");
}

}  // namespace adaptivenet
