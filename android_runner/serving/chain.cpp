#include "serving/chain.h"

#include <set>

namespace adaptivenet {

std::vector<std::pair<int, std::string>> first_readers(const BlockGraph& graph, const Subnet& names) {
  std::set<int> known;
  for (const std::string& name : names) known.insert(graph.block(name).end);
  std::vector<std::pair<int, std::string>> readers;
  for (const std::string& name : names) {
    for (const int cut : graph.reads(graph.block(name))) {
      if (known.insert(cut).second) readers.emplace_back(cut, name);
    }
  }
  return readers;
}

Chain::Chain(const BlockGraph& graph, const Subnet& names, ProgramPtr assembled) : features_(graph.cuts().size()) {
  std::vector<int> reads;
  for (const auto& [cut, reader] : first_readers(graph, names)) reads.push_back(cut);
  steps_.push_back({std::move(assembled), reads, graph.block(names.back()).end, reads});
}

Chain::Chain(const BlockGraph& graph, const Subnet& names, const Programs& programs) : features_(graph.cuts().size()) {
  std::map<int, std::size_t> last_read;
  for (std::size_t index = 0; index < names.size(); ++index) {
    for (const int cut : graph.reads(graph.block(names[index]))) last_read[cut] = index;
  }
  for (std::size_t index = 0; index < names.size(); ++index) {
    const Block& block = graph.block(names[index]);
    Step step{programs.at(block.name), graph.reads(block), block.end, {}};
    for (const int cut : step.reads) {
      if (last_read[cut] == index) step.frees.push_back(cut);
    }
    steps_.push_back(std::move(step));
  }
}

}  // namespace adaptivenet
