#include "serving/model.h"

#include <chrono>
#include <string>
#include <utility>

#include "core/error.h"

namespace adaptivenet {
namespace {

void require_bytes(const char* what, std::size_t given, std::size_t wanted, const TensorType& type) {
  if (given == wanted) return;
  throw DataError(std::string(what) + " has " + std::to_string(given) + " bytes; the pack's is " + to_string(type) +
                  ", " + std::to_string(wanted) + " bytes");
}

}  // namespace

Model::Model(Pack pack, std::shared_ptr<Engine> engine, std::vector<PointToServe> front, LoaderOptions options)
    : pack_(std::move(pack)),
      engine_(std::move(engine)),
      assembler_(pack_, *engine_),
      input_bytes_(static_cast<std::size_t>(adaptivenet::bytes_of(pack_.graph().cuts().front()))),
      output_bytes_(static_cast<std::size_t>(adaptivenet::bytes_of(pack_.graph().cuts().back()))),
      loader_(assembler_, std::move(front), std::move(options)) {}

Ran Model::infer(std::span<const std::byte> input, Layout given, std::span<std::byte> output, Layout wanted) {
  require_bytes("an input", input.size(), input_bytes_, pack_.graph().cuts().front());
  require_bytes("an output", output.size(), output_bytes_, pack_.graph().cuts().back());
  const std::lock_guard lock(turn_);
  Ready* const ready = loader_.slot().take();
  if (ready == nullptr) throw DeviceError("no subnet is active: activate one first, and wait until it is loaded");
  // Gives it back also when the engine throws.
  struct GivesBack {
    ~GivesBack() { loader.ran(ran, loader.slot().give_back(ready)); }
    Loader& loader;
    Ready* ready;
    Ran ran{};
  } run{loader_, ready};
  const auto begin = std::chrono::steady_clock::now();
  FeaturePtr x = engine_->empty(pack_.graph().cuts().front(), ready->layout, true);
  engine_->write(*x, input.data(), given);
  engine_->read(*ready->chain.infer(std::move(x)), output.data(), wanted);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  return run.ran = {ready->point, took.count()};
}

void Model::write_row(std::size_t count, const Given& given, std::span<float> row) const {
  require_bytes("a row", row.size_bytes(), input_bytes_, pack_.graph().cuts().front());
  adaptivenet::write_row(pack_.inputs(), count, given, row);
}

}  // namespace adaptivenet
