// The search space: cuts, and blocks from one cut to a later one. See toolkit/graph/graph.py.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace adaptivenet {

struct Block {
  std::string name;
  int start = 0;
  int end = 0;
  bool original = false;        // a block of the pretrained network, in float32
  bool network = false;         // a whole network as one program
  std::vector<int> reads = {};  // the cuts that it takes besides its start, ascending, each below it
};

using Subnet = std::vector<std::string>;  // names of blocks, in the order they run

class BlockGraph {
 public:
  BlockGraph() = default;

  // Throws GraphError unless: at least 2 cuts; every block goes forward and ends at a cut that exists; no name twice;
  // exactly one original block from each cut to the next and no longer one; taps are cuts before the last, ascending
  // and different; what a block reads besides its start is before that, ascending and different; no block jumps over a
  // tap or what another reads so, but from the first cut to the last; so does every network.
  BlockGraph(std::vector<TensorType> cuts, std::vector<Block> blocks, std::vector<int> taps);

  const std::vector<TensorType>& cuts() const { return cuts_; }
  const std::vector<int>& taps() const { return taps_; }

  // The cuts whose features are kept for later blocks, ascending: the taps, and what blocks read besides their start.
  const std::vector<int>& kept() const { return kept_; }
  const Subnet& oracle() const { return oracle_; }
  int end() const { return static_cast<int>(cuts_.size()) - 1; }

  bool contains(const std::string& name) const { return blocks_.contains(name); }
  const Block& block(const std::string& name) const;  // throws GraphError

  // The cuts whose features a block takes: its start, then, ascending, what it reads besides and, for a head, the taps.
  // A head ends at the last cut and does not start at the first.
  std::vector<int> reads(const Block& block) const;

  void require_subnet(const Subnet& names) const;  // throws GraphError unless a path from the first cut to the last
  void require_chain(const Subnet& names) const;   // throws GraphError unless consecutive blocks, at least one

 private:
  // Where the path from the cut `at` along these blocks ends. Throws GraphError that begins with `otherwise`.
  int walk(const Subnet& names, int at, const char* otherwise) const;

  std::vector<TensorType> cuts_;
  std::map<std::string, Block> blocks_;
  std::vector<int> taps_;
  std::vector<int> kept_;
  Subnet oracle_;
};

}  // namespace adaptivenet
