// Plans followed step by step, on paths in the place of features: what is wrong with one is found before it runs.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pack.h"
#include "paths.h"
#include "plan.h"

namespace adaptivenet {

// An instruction as it comes, before its numbers are known to be slots and keys.
struct Step {
  enum class Kind { kRun, kScore, kFree, kRecall, kKeep, kDrop } kind;
  std::string name;                   // of the block or the metric
  std::vector<std::int64_t> sources;  // what it reads
  std::int64_t number = 0;            // the slot that is written, freed or kept, or the subnet
  std::int64_t key = 0;
};

// Knows of each full slot and of each key the path that made what it holds, and adds up what they take. Fills what a
// plan says of itself beside its subnets and metrics. Everything throws PlanError.
class Following {
 public:
  Following(const Pack& pack, Plan& plan);

  // What is kept before the plan runs; not called for a plan that has nothing to do with what is kept.
  void begin_from(const std::map<std::int64_t, Subnet>& kept);
  void follow(const Step& step);
  void finish();

 private:
  using Holders = std::map<std::int64_t, int>;  // by slot or key, the number of the feature there

  // What one instruction made. A slot and a key may hold the same one, whose bytes count once.
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
  int require_empty(std::int64_t slot);  // and that it is one: its number
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
