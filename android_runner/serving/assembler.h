// Makes what runs of the blocks of a pack: which programs a subnet consists of, how each is loaded, and their chain.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/pack.h"
#include "engines/engine.h"
#include "serving/chain.h"

namespace adaptivenet {

// What is loaded as one program: a block, or where the engine makes one program of several, a whole subnet.
struct Piece {
  std::string name;  // of the block; of a subnet, its blocks with a space between
  Subnet blocks;
  std::int64_t bytes = 0;  // of the artifacts
};

class Assembler {
 public:
  // Both must exist as long as this. Throws PackError when the pack has no artifacts for the engine.
  Assembler(const Pack& pack, Engine& engine);

  const Pack& pack() const { return pack_; }
  Engine& engine() const { return engine_; }

  // Whether consecutive blocks run as one program: where the engine can do that, several blocks, and one that is a
  // whole network.
  bool joins(const Subnet& blocks) const;

  std::vector<Piece> pieces(const Subnet& blocks) const;  // in the order in which they run
  std::int64_t bytes_of(const Subnet& blocks) const;      // of their artifacts
  Layout layout(const std::string& block) const;          // in which it reads its input

  // Throws PackError, DeviceError, and std::bad_alloc.
  ProgramPtr load(const Piece& piece, const ScratchPtr& scratch = nullptr) const;
  ProgramPtr load(const std::string& block, const ScratchPtr& scratch = nullptr) const;

  // The chain of consecutive blocks; `programs` has those of its pieces, by their names.
  Chain chain(const Subnet& blocks, const Programs& programs) const;

 private:
  const Pack& pack_;
  Engine& engine_;
};

}  // namespace adaptivenet
