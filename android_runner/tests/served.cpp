#include "served.h"

#include <cstring>
#include <stdexcept>

#include "fake_engine.h"
#include "serving/assembler.h"

namespace adaptivenet {
namespace {

std::shared_ptr<Engine> engine_of(const std::string& name) {
  if (!name.starts_with("fake")) return make_engine(name, 1);
  auto engine = std::make_shared<FakeEngine>();
  engine->joins = name == "fake, joined";
  return engine;
}

Pack pack_of(const std::string& name, const std::filesystem::path& folder) {
  if (name.starts_with("fake")) return write_fake_pack(folder / "pack");
  const std::filesystem::path real = TINY_PACK "/pack";
  return Pack::open(real / "manifest.json", real / "blobs");
}

}  // namespace

Served::Served(const std::string& name) : engine(engine_of(name)), pack(pack_of(name, folder.path())) {
  const std::vector<Subnet> subnets = name.starts_with("fake") ? std::vector<Subnet>{{"p0", "m1", "o3"},
                                                                                     {"p0", "o1", "m3"},
                                                                                     {"o0", "m1", "o3"},
                                                                                     {"o0", "o1", "m3"},
                                                                                     {"o0", "o1", "o2", "o3"}}
                                                               : std::vector<Subnet>{{"b0-m2", "b2"},
                                                                                     {"b0-p50", "b1-p50", "b2"},
                                                                                     {"b0-p50", "b1", "b2"},
                                                                                     {"b0", "b1-p50", "b2"},
                                                                                     {"b0", "b1", "b2"}};
  for (const Subnet& subnet : subnets) front.push_back({subnet, {1.0 + static_cast<double>(front.size())}});
}

std::vector<std::string> engines_to_test() {
  std::vector<std::string> names{"fake", "fake, joined"};
  for (const auto& [name, version] : engines()) names.push_back(name);
  return names;
}

std::vector<std::byte> input_of(const Pack& pack, int seed) {
  std::vector<float> values(elements_of(pack.graph().cuts().front().shape));
  for (std::size_t at = 0; at < values.size(); ++at) {
    values[at] = static_cast<float>((at * 37 + static_cast<std::size_t>(seed) * 11) % 101) / 50 - 1;
  }
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> output_of(Served& served, const Subnet& subnet, const std::vector<std::byte>& input) {
  const Assembler assembler(served.pack, *served.engine);
  Programs programs;
  for (const Piece& piece : assembler.pieces(subnet)) programs[piece.name] = assembler.load(piece);
  Chain chain = assembler.chain(subnet, programs);
  const TensorView view{served.pack.graph().cuts().front(), input.data()};
  return served.engine->tensor(*chain({{0, served.engine->feature(view, assembler.layout(subnet.front()))}})).data;
}

}  // namespace adaptivenet
