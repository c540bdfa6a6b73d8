#include "evaluate/paths.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/quote.h"
#include "core/sha256.h"

namespace adaptivenet {

Paths::Paths(const BlockGraph& graph) : graph_(graph), paths_{{kEmpty, 0, 0, ""}} {}

int Paths::extend(int path, const std::string& block) {
  const auto [entry, is_new] = known_.try_emplace({path, block}, static_cast<int>(paths_.size()));
  if (is_new) {
    const std::string text = paths_[path].digest + block;
    paths_.push_back({path, paths_[path].length + 1, graph_.block(block).end, sha256(std::as_bytes(std::span(text)))});
  }
  return entry->second;
}

int Paths::path_of(const Subnet& names) {
  int path = kEmpty;
  for (const std::string& name : names) {
    const Block& block = graph_.block(name);
    if (block.start != cut(path)) {
      throw GraphError("block " + quote(name) + " starts at cut " + std::to_string(block.start) +
                       ", but the path is at cut " + std::to_string(cut(path)));
    }
    path = extend(path, name);
  }
  return path;
}

bool Paths::all_begin(int path, const std::vector<int>& others) const {
  std::vector<int> beginnings(paths_[path].length + 1);
  for (int at = path;; at = paths_[at].before) {
    beginnings[paths_[at].length] = at;
    if (at == kEmpty) break;
  }
  return std::all_of(others.begin(), others.end(), [&](int other) {
    const std::size_t length = paths_[other].length;
    return length < beginnings.size() && beginnings[length] == other;
  });
}

}  // namespace adaptivenet
