// Gives every path from cut 0 a number; equal paths have the same number. The paths that made two features are compared
// at every instruction of a plan. If each were a list of names, a small plan could take much memory.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/graph.h"

namespace adaptivenet {

class Paths {
 public:
  static constexpr int kEmpty = 0;

  explicit Paths(const BlockGraph& graph);

  int extend(int path, const std::string& block);
  int path_of(const Subnet& names);  // throws GraphError unless a path from cut 0, to any cut

  int cut(int path) const { return paths_[path].cut; }
  const std::string& digest(int path) const { return paths_[path].digest; }  // of its blocks, in their order

  // Whether each of `others` is `path` or how it begins.
  bool all_begin(int path, const std::vector<int>& others) const;

 private:
  struct Path {
    int before;  // without the last block
    std::size_t length;
    int cut;
    std::string digest;
  };

  const BlockGraph& graph_;
  std::vector<Path> paths_;
  std::map<std::pair<int, std::string>, int> known_;
};

}  // namespace adaptivenet
