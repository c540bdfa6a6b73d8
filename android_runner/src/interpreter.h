// The interpreter of plans, and chains of blocks. Features stay in the engine's own tensors from the first block to the
// metric. See toolkit/devices/interpreter.py, which does the same.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine.h"
#include "graph.h"
#include "kept.h"
#include "plan.h"

namespace adaptivenet {

using ProgramPtr = std::shared_ptr<Program>;
using Programs = std::map<std::string, ProgramPtr>;
using Clock = std::chrono::steady_clock;

// Consecutive blocks with their programs loaded: a single block, a subnet, or a stretch of one. Holds on to them.
class Chain {
 public:
  Chain() = default;
  Chain(const BlockGraph& graph, const Subnet& names, const Programs& programs);

  // The cuts whose features the chain is given, each with the block that reads it first: the cut where it starts, and
  // the taps that its head reads from before there.
  const std::map<int, std::string>& takes() const { return takes_; }

  // The last block's output, given the features at the cuts of `takes`. It may lie in that block's own memory: each
  // program runs once, so nothing that waits in one is overwritten, and nothing is copied out in between.
  // With `passed`, the times at which each of its cuts was reached are appended to it: one look at the clock a block.
  FeaturePtr operator()(const std::map<int, FeaturePtr>& given, std::vector<Clock::time_point>* passed = nullptr);

  std::size_t blocks() const { return steps_.size(); }

 private:
  struct Step {
    ProgramPtr program;
    std::vector<int> reads;
    int end;
    std::vector<int> spent;  // cuts that nobody reads afterwards
  };
  std::map<int, std::string> takes_;
  std::vector<Step> steps_;
  std::vector<FeaturePtr> features_;  // by cut
  std::vector<FeaturePtr> operands_;
};

// The numbers of the runs whose outputs are still needed when their block runs again, or after the plan: they cannot
// lie in the program's own memory, and all others need not be copied out of it.
std::set<std::size_t> outlasting(const std::vector<Instruction>& instructions);

// A plan with its programs loaded. Call it once for each image.
class PlanRunner {
 public:
  PlanRunner(const Plan& plan, const Programs& blocks, const Programs& metrics);

  // `kept` are the features that are kept of this image; they change as the plan says. `scored(score, sums)` is called
  // for every score; `sums` may lie in the metric's own memory.
  template <typename Scored>
  void operator()(FeaturePtr image, FeaturePtr label, KeptOfImage& kept, Scored&& scored) {
    slots_[kInputSlot] = std::move(image);
    slots_[kLabelSlot] = std::move(label);
    for (const Step& step : steps_) {
      switch (step.kind) {
        case Step::Kind::kRun:
          slots_[step.slot] = run(step, step.copied);
          operands_.clear();  // lest they live on when their slots are freed
          ++block_runs_;
          break;
        case Step::Kind::kScore:
          scored(*step.score, *run(step, false));
          operands_.clear();
          break;
        case Step::Kind::kFree:
          slots_[step.slot].reset();
          break;
        case Step::Kind::kRecall:
          slots_[step.slot] = kept.at(step.key);
          break;
        case Step::Kind::kKeep:
          kept[step.key] = slots_[step.slot];
          break;
        case Step::Kind::kDrop:
          kept.erase(step.key);
      }
    }
    slots_[kLabelSlot].reset();
  }

  long block_runs() const { return block_runs_; }

 private:
  struct Step {
    enum class Kind { kRun, kScore, kFree, kRecall, kKeep, kDrop } kind = Kind::kRun;
    ProgramPtr program;  // of a block or a metric
    std::vector<int> sources;
    int slot = 0;
    int key = 0;
    const Score* score = nullptr;  // of a metric
    bool copied = false;           // out of the program's own memory, where it is a run
  };

  FeaturePtr run(const Step& step, bool keep) {
    for (const int source : step.sources) operands_.push_back(slots_[source]);
    return step.program->run(operands_, keep);
  }

  std::vector<Step> steps_;
  std::vector<FeaturePtr> slots_;
  std::vector<FeaturePtr> operands_;
  long block_runs_ = 0;
};

}  // namespace adaptivenet
