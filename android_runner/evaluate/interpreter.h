// The interpreter of plans. Features stay in the engine's own tensors from the first block to the
// metric. See toolkit/devices/local/interpreter.py, which does the same.
#pragma once

#include <set>
#include <utility>
#include <vector>

#include "evaluate/kept.h"
#include "evaluate/plan.h"
#include "serving/chain.h"

namespace adaptivenet {

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
