#include "core/graph.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

std::string cut_name(int index) { return "cut " + std::to_string(index); }

}  // namespace

BlockGraph::BlockGraph(std::vector<TensorType> cuts, std::vector<Block> blocks, std::vector<int> taps)
    : cuts_(std::move(cuts)), taps_(std::move(taps)) {
  if (cuts_.size() < 2) throw GraphError("there are " + std::to_string(cuts_.size()) + " cuts; there must be 2");
  for (std::size_t at = 0; at < taps_.size(); ++at) {
    if (taps_[at] < 0 || taps_[at] >= end()) {
      throw GraphError("tap " + std::to_string(taps_[at]) + " is no cut before the last, 0 to " +
                       std::to_string(end() - 1));
    }
    if (at > 0 && taps_[at] <= taps_[at - 1]) throw GraphError("taps must be ascending and different");
  }
  std::set<int> kept(taps_.begin(), taps_.end());
  for (const Block& block : blocks) kept.insert(block.reads.begin(), block.reads.end());
  kept_.assign(kept.begin(), kept.end());
  oracle_.resize(static_cast<std::size_t>(end()));
  for (Block& block : blocks) {
    const std::string what = "block " + quote(block.name);
    if (block.start < 0 || block.start >= block.end) {
      throw GraphError(what + " goes from " + cut_name(block.start) + " to " + cut_name(block.end) +
                       "; it must go forward");
    }
    if (block.end > end()) {
      throw GraphError(what + " ends at " + cut_name(block.end) + "; the last cut is " + std::to_string(end()));
    }
    const bool from_end_to_end = block.start == 0 && block.end == end();
    if (block.network && !from_end_to_end) {
      throw GraphError(what + " is a whole network and must go from the first cut to the last: it goes from " +
                       cut_name(block.start) + " to " + cut_name(block.end));
    }
    int before = -1;
    for (const int cut : block.reads) {
      if (cut <= before || cut >= block.start) {
        throw GraphError(what + " starts at " + cut_name(block.start) + " and reads " + cut_name(cut) +
                         " besides: such cuts must be ascending, and before its start");
      }
      before = cut;
    }
    const auto jumped = std::upper_bound(kept_.begin(), kept_.end(), block.start);
    if (jumped != kept_.end() && *jumped < block.end && !from_end_to_end) {
      const bool is_tap = std::binary_search(taps_.begin(), taps_.end(), *jumped);
      throw GraphError(what + " jumps over " + cut_name(*jumped) + ", which is " +
                       (is_tap ? "a tap" : "one that other blocks read"));
    }
    if (block.original) {
      if (block.end != block.start + 1) throw GraphError(what + " is original and must span one cut");
      std::string& name = oracle_[static_cast<std::size_t>(block.start)];
      if (!name.empty()) {
        throw GraphError(what + " and " + quote(name) + " are both original from " + cut_name(block.start));
      }
      name = block.name;
    }
    const std::string name = block.name;
    if (!blocks_.emplace(name, std::move(block)).second) throw GraphError("the block name " + quote(name) + " twice");
  }
  for (std::size_t at = 0; at < oracle_.size(); ++at) {
    if (oracle_[at].empty()) {
      throw GraphError("there is no original block from " + cut_name(static_cast<int>(at)) + " to the next");
    }
  }
}

const Block& BlockGraph::block(const std::string& name) const {
  const auto found = blocks_.find(name);
  if (found == blocks_.end()) {
    throw GraphError("there is no block " + quote(name) + " in this graph of " + std::to_string(blocks_.size()) +
                     " blocks");
  }
  return found->second;
}

std::vector<int> BlockGraph::reads(const Block& block) const {
  std::vector<int> cuts = {block.start};
  if (block.end != end() || block.start == 0) {
    cuts.insert(cuts.end(), block.reads.begin(), block.reads.end());
    return cuts;
  }
  std::set_union(block.reads.begin(), block.reads.end(), taps_.begin(), taps_.end(), std::back_inserter(cuts));
  cuts.erase(std::remove(cuts.begin() + 1, cuts.end(), block.start), cuts.end());
  return cuts;
}

void BlockGraph::require_subnet(const Subnet& names) const {
  const int at = walk(names, 0, "not a subnet");
  if (at != end()) {
    throw GraphError("not a subnet: the path ends at " + cut_name(at) + ", the last cut is " + std::to_string(end()));
  }
}

void BlockGraph::require_chain(const Subnet& names) const {
  if (names.empty()) throw GraphError("not a chain: it has no blocks");
  walk(names, block(names.front()).start, "not a chain");
}

int BlockGraph::walk(const Subnet& names, int at, const char* otherwise) const {
  for (const std::string& name : names) {
    const Block& next = block(name);
    if (next.start != at) {
      throw GraphError(std::string(otherwise) + ": block " + quote(name) + " starts at " + cut_name(next.start) +
                       ", but the path is at " + cut_name(at));
    }
    at = next.end;
  }
  return at;
}

}  // namespace adaptivenet
