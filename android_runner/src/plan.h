// An evaluation as a program of three instructions. See toolkit/plan.py, which compiles them.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "graph.h"
#include "json.h"
#include "pack.h"

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
using Instruction = std::variant<Run, Score, Free>;

struct Plan {
  std::vector<Instruction> instructions;
  int slots = 0;
  std::vector<Subnet> subnets;
  std::vector<std::string> metrics;
  std::int64_t peak_bytes = 0;
  std::int64_t block_runs = 0;

  // Reads the document that Plan.to_json of toolkit/plan.py writes, and follows it step by step as Plan.from_json there
  // does; also that the pack has its metrics, with these operands. Throws PlanError.
  static Plan from_json(const Pack& pack, const Json& document);

  bool reads_labels() const;
};

}  // namespace adaptivenet
