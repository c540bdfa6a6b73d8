// Packs to serve in tests: one of the fake engine, and a real one that tests/runner_pack.py has made.
#pragma once

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/pack.h"
#include "engines/engine.h"
#include "folder.h"
#include "serving/model.h"

namespace adaptivenet {

// What a test is run with: "fake", "fake, joined", "executorch", "onnxruntime".
struct Served {
  explicit Served(const std::string& engine_name);

  Folder folder;
  std::shared_ptr<Engine> engine;
  Pack pack;
  std::vector<PointToServe> front;  // of latencies 1, 2, 3, ... ms; the first is the smallest
};

std::vector<std::string> engines_to_test();  // of this build

// Some input of a pack, another one for each seed; and its output by a subnet that is loaded alone.
std::vector<std::byte> input_of(const Pack& pack, int seed);
std::vector<std::byte> output_of(Served& served, const Subnet& subnet, const std::vector<std::byte>& input);

}  // namespace adaptivenet
