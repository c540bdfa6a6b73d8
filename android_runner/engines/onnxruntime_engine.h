// ONNX Runtime as an engine, on the CPU.
#pragma once

#include "engines/engine.h"

namespace adaptivenet {

std::unique_ptr<Engine> make_onnxruntime_engine(int threads);
std::string onnxruntime_version();

}  // namespace adaptivenet
