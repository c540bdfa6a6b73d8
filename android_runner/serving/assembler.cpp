#include "serving/assembler.h"

#include <utility>

namespace adaptivenet {
namespace {

std::string joined(const Subnet& blocks) {
  std::string name;
  for (const std::string& block : blocks) name += (name.empty() ? "" : " ") + block;
  return name;
}

}  // namespace

Assembler::Assembler(const Pack& pack, Engine& engine) : pack_(pack), engine_(engine) {
  pack_.block_artifact(pack_.graph().oracle().front(), engine_.backend());
}

bool Assembler::joins(const Subnet& blocks) const {
  const BlockGraph& graph = pack_.graph();
  const bool whole = graph.block(blocks.front()).start == 0 && graph.block(blocks.back()).end == graph.end();
  return engine_.assembles() && (blocks.size() > 1 || whole);
}

std::vector<Piece> Assembler::pieces(const Subnet& blocks) const {
  if (joins(blocks)) return {{joined(blocks), blocks, bytes_of(blocks)}};
  std::vector<Piece> found;
  for (const std::string& block : blocks) found.push_back({block, {block}, bytes_of({block})});
  return found;
}

std::int64_t Assembler::bytes_of(const Subnet& blocks) const {
  std::int64_t bytes = 0;
  for (const std::string& name : blocks) bytes += pack_.block_artifact(name, engine_.backend()).bytes;
  return bytes;
}

Layout Assembler::layout(const std::string& block) const {
  return pack_.block_artifact(block, engine_.backend()).layout;
}

ProgramPtr Assembler::load(const Piece& piece, const ScratchPtr& scratch) const {
  if (!joins(piece.blocks)) return load(piece.blocks.front(), scratch);
  const BlockGraph& graph = pack_.graph();
  std::vector<Part> parts;
  for (const std::string& name : piece.blocks) {
    const Block& block = graph.block(name);
    parts.push_back({"block '" + name + "'", pack_.read(pack_.block_artifact(name, engine_.backend())),
                     graph.reads(block), block.end});
  }
  return ProgramPtr(engine_.assemble(parts, graph.cuts()));
}

ProgramPtr Assembler::load(const std::string& name, const ScratchPtr& scratch) const {
  const BlockGraph& graph = pack_.graph();
  const Block& block = graph.block(name);
  const Artifact& artifact = pack_.block_artifact(name, engine_.backend());
  Signature signature{{}, {graph.cuts()[block.end]}};
  for (const int cut : graph.reads(block)) signature.takes.push_back(graph.cuts()[cut]);
  return engine_.load("block '" + name + "'", pack_.read(artifact), artifact.layout, signature, scratch);
}

Chain Assembler::chain(const Subnet& blocks, const Programs& programs) const {
  if (joins(blocks)) return Chain(pack_.graph(), blocks, programs.at(joined(blocks)));
  return Chain(pack_.graph(), blocks, programs);
}

}  // namespace adaptivenet
