// ExecuTorch as an engine.
#pragma once

#include "engines/engine.h"

namespace adaptivenet {

std::unique_ptr<Engine> make_executorch_engine(int threads);
std::string executorch_version();

}  // namespace adaptivenet
