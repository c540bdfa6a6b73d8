// Several ONNX programs joined to one model, byte by byte, without an ONNX library. See
// toolkit/devices/local/onnx_assembly.py, which does the same, and docs/pack.md.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace adaptivenet {

// A program to join: what it is in errors, its bytes, and the cuts that it reads and gives.
struct OnnxPart {
  std::string what;
  std::span<const std::byte> data;
  std::vector<int> takes;
  int gives = 0;
};

// The model of consecutive parts. It takes what no earlier part gives, in the order in which it is first read, and
// gives what the last part gives. Throws PackError, which names the part, for what is no such program, and for parts of
// different operator sets.
std::string assemble_onnx(std::span<const OnnxPart> parts);

}  // namespace adaptivenet
