// An evaluation as a program of a few instructions. See toolkit/plan/plan.py, which compiles them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/graph.h"
#include "core/json.h"
#include "core/pack.h"

namespace adaptivenet {

inline constexpr int kInputSlot = 0;
inline constexpr int kLabelSlot = 1;

struct Run {
  std::string block;
  std::vector<int> sources;
  int target = 0;
};
struct Score {
  int subnet = 0;
  std::string metric;
  std::vector<int> operands;
};
struct Free {
  int slot = 0;
};
struct Recall {
  int key = 0;
  int slot = 0;
};
struct Keep {
  int slot = 0;
  int key = 0;
};
struct Drop {
  int key = 0;
};
using Instruction = std::variant<Run, Score, Free, Recall, Keep, Drop>;

// What is kept of every image, by key: a digest of the blocks that made it, in their order. Names would take more
// memory than the plan that they come from.
using KeptPaths = std::map<int, std::string>;

struct Plan {
  std::vector<Instruction> instructions;
  int slots = 0;
  std::vector<Subnet> subnets;
  std::vector<std::string> metrics;
  std::int64_t peak_bytes = 0;
  std::int64_t block_runs = 0;
  std::optional<KeptPaths> kept;  // before the plan runs; empty for a plan that neither reads nor keeps such features
  KeptPaths keeps;                // after it has run
  std::int64_t kept_bytes = 0;    // the larger of both, for one image

  // Reads the document that Plan.to_json of toolkit/plan/plan.py writes, and checks it as Plan.from_json does there:
  // each instruction, and that the pack has the metrics with these operands. Throws PlanError.
  static Plan from_json(const Pack& pack, const Json& document);

  bool reads_labels() const;
};

}  // namespace adaptivenet
