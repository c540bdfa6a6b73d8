// The interpreter of plans, and chains of blocks. Features stay in the engine's own tensors from the first block to the
// metric. See toolkit/devices/local/interpreter.py, which does the same.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/graph.h"
#include "engines/engine.h"
#include "evaluate/kept.h"
#include "evaluate/plan.h"
#include "evaluate/stopwatch.h"

namespace adaptivenet {

using ProgramPtr = std::shared_ptr<Program>;
using Programs = std::map<std::string, ProgramPtr>;

// The cuts whose features consecutive blocks must be given, in the order in which they are first read, each with the
// block that does: the cut where they start, and the taps that their head reads from before there.
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
  // copied. With `watch`, it is split when each program has ended.
  FeaturePtr operator()(const std::map<int, FeaturePtr>& given, Stopwatch* watch = nullptr);

  std::size_t programs() const { return steps_.size(); }

 private:
  struct Step {
    ProgramPtr program;
    std::vector<int> reads;
    int end;
    std::vector<int> frees;  // the cuts whose features no later block reads
  };
  std::vector<Step> steps_;
  std::vector<FeaturePtr> features_;  // by cut
  std::vector<FeaturePtr> operands_;
};

// The numbers of the runs whose outputs must be copied out of the program's own memory: they are still needed when
// their block runs again, or after the plan. The other outputs stay where they are.
std::set<std::size_t> runs_to_copy(const std::vector<Instruction>& instructions);

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
          operands_.clear();  // otherwise they would stay in memory after their slots are freed
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
    bool copied = false;           // of a run: whether its output is copied out of the program's own memory
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
