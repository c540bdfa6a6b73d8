// Checks a plan before it runs: each instruction is done on paths in the place of features.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/pack.h"
#include "evaluate/paths.h"
#include "evaluate/plan.h"

namespace adaptivenet {

// An instruction as the document has it: its numbers may not be slots and keys of the plan.
struct Step {
  enum class Kind { kRun, kScore, kFree, kRecall, kKeep, kDrop } kind;
  std::string name;                   // of the block or the metric
  std::vector<std::int64_t> sources;  // what it reads
  std::int64_t number = 0;            // the slot that is written, freed or kept, or the subnet
  std::int64_t key = 0;
};

// Takes the instructions of a plan one by one. It knows, for each slot that is full and for each key, the path whose
// feature is there, and it adds up the bytes. It fills the fields of the plan other than its subnets and metrics. Every
// function throws PlanError.
class PlanCheck {
 public:
  PlanCheck(const Pack& pack, Plan& plan);

  // Says what is kept before the plan runs. It is not called for a plan that neither reads nor keeps such features.
  void begin_from(const std::map<std::int64_t, Subnet>& kept);
  void take(const Step& step);
  void finish();

 private:
  using Holders = std::map<std::int64_t, int>;  // by slot or key, the number of the feature there

  // What one instruction made. A slot and a key may hold the same feature; its bytes are counted once.
  struct Feature {
    int path;
    int holders;
  };

  void run(const Step& step);
  void score(const Step& step);
  void keep(const Step& step);

  int read(std::int64_t slot) const;    // a feature
  int look_up(std::int64_t key) const;  // a feature
  int path_in(std::int64_t slot) const { return features_[static_cast<std::size_t>(read(slot))].path; }
  int require_empty(std::int64_t slot);  // returns the slot, which is now known to fit into an int
  int make(int path);                    // a new feature
  void hold(Holders& holders, std::int64_t number, int feature);
  void release(Holders& holders, std::int64_t number);
  std::int64_t size_of(int feature) const;

  const Pack& pack_;
  const BlockGraph& graph_;
  Plan& plan_;
  Paths paths_;
  int oracle_ = 0;
  std::vector<int> subnets_;
  std::set<std::string> metrics_;
  std::vector<Feature> features_;
  Holders slots_;
  Holders keys_;
  std::set<std::pair<std::int64_t, std::string>> scored_;
  std::int64_t bytes_ = 0;
  std::string where_;
};

}  // namespace adaptivenet
