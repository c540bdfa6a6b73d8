// Chains of blocks. Features stay in the engine's own tensors from the first block to the last.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/graph.h"
#include "engines/engine.h"

namespace adaptivenet {

using ProgramPtr = std::shared_ptr<Program>;
using Programs = std::map<std::string, ProgramPtr>;

// The cuts whose features consecutive blocks must be given, in the order in which they are first read, each with the
// block that does: the cut where they start, and what they read from before there.
std::vector<std::pair<int, std::string>> first_readers(const BlockGraph& graph, const Subnet& names);

// Consecutive blocks with their programs loaded: a single block, a subnet, or a part of one. It keeps them loaded. It
// has a program for each of its blocks, or one for all of them, where the engine can assemble it.
class Chain {
 public:
  Chain() = default;
  Chain(const BlockGraph& graph, const Subnet& names, const Programs& programs);

  // The same blocks as one program, which was made of them.
  Chain(const BlockGraph& graph, const Subnet& names, ProgramPtr assembled);

  // Runs the blocks on the features at the cuts of `first_readers` and returns the last one's output, which may lie in
  // that block's own memory. Each program runs once, so no output is overwritten while it is needed, and none is
  // copied. `ended()` is called when each program has ended. Nothing is allocated here but what programs allocate.
  template <typename Ended>
  FeaturePtr operator()(const std::map<int, FeaturePtr>& given, Ended&& ended) {
    for (const auto& [cut, feature] : given) features_[cut] = feature;
    return run(ended);
  }

  FeaturePtr operator()(const std::map<int, FeaturePtr>& given) {
    return (*this)(given, [] {});
  }

  // The same of a whole subnet, on the feature at cut 0. It is let go as soon as it was read, so that its memory serves
  // the blocks behind.
  FeaturePtr infer(FeaturePtr input) {
    features_[0] = std::move(input);
    return run([] {});
  }

 private:
  struct Step {
    ProgramPtr program;
    std::vector<int> reads;
    int end;
    std::vector<int> frees;  // the cuts whose features no later block reads
  };

  template <typename Ended>
  FeaturePtr run(Ended&& ended) {
    for (const Step& step : steps_) {
      operands_.clear();
      for (const int cut : step.reads) operands_.push_back(features_[cut]);
      features_[step.end] = step.program->run(operands_, false);
      for (const int cut : step.frees) features_[cut].reset();
      ended();
    }
    operands_.clear();
    return std::move(features_[steps_.back().end]);
  }

  std::vector<Step> steps_;
  std::vector<FeaturePtr> features_;  // by cut
  std::vector<FeaturePtr> operands_;
};

}  // namespace adaptivenet
