// A pack that is open to infer with: one subnet serves, others are loaded beside it, and the swap is between two
// inferences. What include/adaptivenet/adaptivenet.h offers to other programs is this class.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/pack.h"
#include "engines/engine.h"
#include "serving/loader.h"

namespace adaptivenet {

class Model {
 public:
  // Without budgets, nothing serves before `activate`. Throws PackError when the pack has no artifacts for the engine,
  // BudgetError for budgets that are none, DeviceError for a front that is none, GraphError when a point is no subnet
  // of the pack. Nothing is loaded when this returns: see `wait`.
  Model(Pack pack, std::shared_ptr<Engine> engine, std::vector<PointToServe> front, LoaderOptions options);

  const Pack& pack() const { return pack_; }

  // From any thread, and also while an inference runs; see Loader.
  void activate(Subnet subnet) { loader_.want(std::move(subnet)); }
  void set_budgets(const Budgets& budgets) { loader_.want(budgets); }
  void sense(const Signals& signals) { loader_.sense(signals); }
  void wait() { loader_.wait(); }
  ServingStatus status() const { return loader_.status(); }
  std::int64_t bytes_of(const Subnet& subnet) const { return assembler_.bytes_of(subnet); }

  // Runs the subnet that serves on `input`, whose four dimensions come in the order `given`, and writes its output to
  // `output`, four dimensions in the order `wanted`. Never waits for a load, and allocates nothing but what the engine
  // allocates; several threads take turns. The time is from the input to the output, without waiting for one's turn.
  // Throws DeviceError when nothing serves yet or the engine fails, DataError when a size is not the pack's.
  Ran infer(std::span<const std::byte> input, Layout given, std::span<std::byte> output,
            Layout wanted = Layout::kContiguous);

  // Writes the several inputs of a network to `row`, which `infer` then takes. See core/inputs.h; throws DataError as
  // well when the row has not the size of the pack's input.
  void write_row(std::size_t count, const Given& given, std::span<float> row) const;

  std::size_t input_bytes() const { return input_bytes_; }
  std::size_t output_bytes() const { return output_bytes_; }

 private:
  const Pack pack_;
  const std::shared_ptr<Engine> engine_;
  const Assembler assembler_;
  const std::size_t input_bytes_;
  const std::size_t output_bytes_;
  std::mutex turn_;
  Loader loader_;
};

}  // namespace adaptivenet
