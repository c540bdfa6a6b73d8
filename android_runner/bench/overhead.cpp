// What the runner adds to ExecuTorch: `runner-overhead HOME PACK BLOCKS ROUNDS`, where BLOCKS are those of a subnet,
// joined by commas. In every round the subnet runs once as the runner runs it, and once as a bare loop over
// ExecuTorch's Module, which goes first by turns. Prints one json object: the milliseconds of both, round by round.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr.h>

#include <chrono>
#include <iostream>
#include <sstream>

#include "core/json.h"
#include "core/pack.h"
#include "engines/buffers.h"
#include "engines/engine.h"
#include "serving/chain.h"

namespace {

using adaptivenet::Layout;
using executorch::extension::Module;
using executorch::runtime::EValue;
using Clock = std::chrono::steady_clock;

double ms_of(auto&& work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: runner-overhead HOME PACK BLOCKS ROUNDS\n";
    return 2;
  }
  const std::filesystem::path home = argv[1];
  const auto pack = adaptivenet::Pack::open(home / "packs" / (std::string(argv[2]) + ".json"), home / "blobs");
  const auto& graph = pack.graph();
  adaptivenet::Subnet subnet;
  std::istringstream names(argv[3]);
  for (std::string name; std::getline(names, name, ',');) subnet.push_back(name);
  graph.require_subnet(subnet);

  const auto engine = adaptivenet::make_engine("executorch", 1);
  adaptivenet::Programs programs;
  std::vector<std::unique_ptr<Module>> modules;
  for (const std::string& name : subnet) {
    const auto& artifact = pack.block_artifact(name, "executorch");
    adaptivenet::Signature signature{{}, {graph.cuts()[graph.block(name).end]}};
    for (const int cut : graph.reads(graph.block(name))) signature.takes.push_back(graph.cuts()[cut]);
    if (signature.takes.size() != 1) {
      std::cerr << "the bare loop gives each block one feature: give a pack without taps and reads\n";
      return 1;
    }
    programs[name] = engine->load(name, pack.read(artifact), artifact.layout, signature);
    modules.push_back(std::make_unique<Module>(home / artifact.file, Module::LoadMode::Mmap));
  }
  const auto& type = graph.cuts().front();
  // Programs read their inputs in place, and XNNPACK past their end.
  std::vector<float> noise(adaptivenet::elements_of(type.shape) + adaptivenet::kRoom / sizeof(float));
  for (std::size_t index = 0; index < noise.size(); ++index)
    noise[index] = static_cast<float>(index % 251) / 251 - 0.5f;
  const Layout layout = pack.block_artifact(subnet.front(), "executorch").layout;
  adaptivenet::Chain chain(graph, subnet, programs);
  const auto input = engine->feature({type, reinterpret_cast<const std::byte*>(noise.data())}, layout);
  const std::vector<executorch::aten::SizesType> sizes(type.shape.begin(), type.shape.end());
  const bool last = sizes.size() == 4 && layout == Layout::kChannelsLast;
  const auto order =
      last ? std::vector<executorch::aten::DimOrderType>{0, 2, 3, 1} : std::vector<executorch::aten::DimOrderType>{};
  const auto tensor =
      executorch::extension::make_tensor_ptr(sizes, noise.data(), order, {}, executorch::aten::ScalarType::Float);

  const auto ours = [&] { chain({{0, input}}); };
  const auto bare = [&] {
    EValue feature = tensor;
    for (auto& module : modules) feature = module->forward(feature).get()[0];
  };
  adaptivenet::Json times = {{"runner_ms", nullptr}, {"bare_ms", nullptr}};
  const int warmup = 3;
  for (int round = -warmup; round < std::atoi(argv[4]); ++round) {
    double first = round % 2 == 0 ? ms_of(ours) : ms_of(bare);
    double second = round % 2 == 0 ? ms_of(bare) : ms_of(ours);
    if (round % 2 != 0) std::swap(first, second);
    if (round < 0) continue;
    times["runner_ms"].push_back(first);
    times["bare_ms"].push_back(second);
  }
  std::cout << times.dump() << "\n";
  return 0;
}
