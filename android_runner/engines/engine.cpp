#include "engines/engine.h"

#include <stdexcept>

#include "core/error.h"
#include "core/quote.h"
#ifdef RUNNER_EXECUTORCH
#include "engines/executorch_engine.h"
#endif
#ifdef RUNNER_ONNXRUNTIME
#include "engines/onnxruntime_engine.h"
#endif

namespace adaptivenet {
namespace {

std::string joined(const std::vector<TensorType>& types) {
  std::string text;
  for (const TensorType& type : types) text += (text.empty() ? "" : " + ") + to_string(type);
  return text.empty() ? "nothing" : text;
}

}  // namespace

void check_signature(const std::string& what, const Signature& pack, const Signature& program) {
  if (pack == program) return;
  throw PackError(what + " takes " + joined(program.takes) + " and gives " + joined(program.gives) +
                  ", but its pack says " + joined(pack.takes) + " and " + joined(pack.gives) +
                  "; export the pack again");
}

std::unique_ptr<Program> Engine::assemble(const std::vector<Part>& parts, const std::vector<TensorType>& cuts) {
  throw std::logic_error(name() + " makes no program of several");
}

FeaturePtr Engine::feature(const TensorView& view, Layout layout) {
  FeaturePtr made = empty(view.type, layout, false);
  write(*made, view.data, Layout::kContiguous);
  return made;
}

Tensor Engine::tensor(const Feature& feature) {
  Tensor made{type_of(feature), {}};
  made.data.resize(bytes_of(made.type));
  read(feature, made.data.data(), Layout::kContiguous);
  return made;
}

std::vector<std::pair<std::string, std::string>> engines() {
  std::vector<std::pair<std::string, std::string>> known;
#ifdef RUNNER_EXECUTORCH
  known.emplace_back("executorch", executorch_version());
#endif
#ifdef RUNNER_ONNXRUNTIME
  known.emplace_back("onnxruntime", onnxruntime_version());
#endif
  return known;
}

std::unique_ptr<Engine> make_engine(const std::string& name, int threads) {
#ifdef RUNNER_EXECUTORCH
  if (name == "executorch") return make_executorch_engine(threads);
#endif
#ifdef RUNNER_ONNXRUNTIME
  if (name == "onnxruntime") return make_onnxruntime_engine(threads);
#endif
  std::string has;
  for (const auto& [known, version] : engines()) has += (has.empty() ? "" : ", ") + known;
  throw DeviceError("this runner has no engine " + quote(name) + "; it has: " + has);
}

}  // namespace adaptivenet
