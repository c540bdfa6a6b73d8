// AdaptiveNet's serving core for C++17 and later: a thin face over adaptivenet.h. It is compiled into the program that
// includes it, so that program and library may use different C++ libraries. What is said here of a parameter is short;
// the function of the same name in adaptivenet.h says all of it: units, ranges, and when it fails.
#pragma once

#include <adaptivenet/adaptivenet.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace adaptivenet {

// What every function below throws when its counterpart returns another code than ADAPTIVENET_OK. `what()` is the
// sentence of `adaptivenet_last_error`, copied.
class ModelError : public std::runtime_error {
 public:
  ModelError(adaptivenet_code code, const char* message) : std::runtime_error(message), code_(code) {}
  adaptivenet_code code() const noexcept { return code_; }

 private:
  adaptivenet_code code_;
};

/**
 * Names the values of one input of a network that has several, for `ServedModel::write_row`.
 *
 * @param[in] name Of the input. It is not copied: it must live until the row is written.
 * @param[in] of The values, row-major, in something contiguous of float, std::int64_t, std::int32_t or bool:
 *     std::vector (but not of bool), std::array, std::span. They are not copied either.
 */
template <typename Values>
adaptivenet_values values(const char* name, const Values& of) {
  using Value = std::remove_cv_t<std::remove_pointer_t<decltype(of.data())>>;
  constexpr bool kWhole = std::is_integral_v<Value> && std::is_signed_v<Value>;
  static_assert(std::is_same_v<Value, float> || std::is_same_v<Value, bool> ||
                (kWhole && (sizeof(Value) == 4 || sizeof(Value) == 8)));
  const char* const whole = sizeof(Value) == 8 ? "int64" : "int32";
  const char* const dtype = std::is_same_v<Value, float> ? "float32" : std::is_same_v<Value, bool> ? "bool" : whole;
  return {name, dtype, of.data(), of.size()};
}

// A model that is open; it is closed when this object is destroyed, which blocks until the load that is on has ended.
// Every function may be called from any thread, but for destroying it and moving from it, which must come after all
// others have returned. One that was moved from has no model: its functions throw ModelError, and those that give a
// number give 0.
class ServedModel {
 public:
  /**
   * Opens a pack with a profile, and returns when a subnet serves. Blocks. See `adaptivenet_open`.
   *
   * @param[in] pack_folder Path of the pack's folder.
   * @param[in] profile_path Path of a profile of that pack.
   * @param[in] budgets What an inference may take: {12.5} is 12.5 ms in the median.
   * @param[in] options How to open it; `size` is filled in here.
   */
  static ServedModel open(const std::string& pack_folder, const std::string& profile_path,
                          const adaptivenet_budgets& budgets, adaptivenet_options options = {}) {
    options.size = sizeof options;
    adaptivenet_model* model = nullptr;
    require(adaptivenet_open(pack_folder.c_str(), profile_path.c_str(), &budgets, &options, &model));
    return ServedModel(model);
  }

  /**
   * The same for a pack in one file, or in a part of one. See `adaptivenet_open_archive`.
   *
   * @param[in] descriptor A file that is open to read; the caller's, who may close it afterwards.
   * @param[in] offset Where the pack begins in the file, in bytes.
   * @param[in] length How many bytes it has.
   * @param[in] profile The text of the profile.
   * @param[in] budgets What an inference may take.
   * @param[in] options How to open it; `size` is filled in here.
   */
  static ServedModel open(int descriptor, std::int64_t offset, std::int64_t length, std::string_view profile,
                          const adaptivenet_budgets& budgets, adaptivenet_options options = {}) {
    options.size = sizeof options;
    adaptivenet_model* model = nullptr;
    require(adaptivenet_open_archive(descriptor, offset, length, profile.data(), profile.size(), &budgets, &options,
                                     &model));
    return ServedModel(model);
  }

  // What `infer` takes and gives: shape, type, bytes.
  adaptivenet_tensor input() const { return tensor(adaptivenet_input); }
  adaptivenet_tensor output() const { return tensor(adaptivenet_output); }

  // How many inputs the row holds that a network with several inputs takes; 0: the network takes one tensor.
  std::size_t inputs() const { return adaptivenet_input_count(model_.get()); }

  // The name and the form of the input `at` of them, less than `inputs()`.
  std::pair<std::string, adaptivenet_tensor> input(std::size_t at) const {
    const char* name = nullptr;
    adaptivenet_tensor tensor;
    require(adaptivenet_named_input(model_.get(), at, &name, &tensor));
    return {name, tensor};
  }

  /**
   * Writes all inputs to the row that `infer` takes. See `adaptivenet_write_row`.
   *
   * @param[in] given What `values` makes of each input, in any order.
   * @param[out] row Contiguous floats, as many as the input has: `input().bytes / sizeof(float)`.
   */
  template <typename Row>
  void write_row(std::initializer_list<adaptivenet_values> given, Row&& row) const {
    float* const to = row.data();
    require(adaptivenet_write_row(model_.get(), given.begin(), given.size(), to, row.size() * sizeof *to));
  }

  // How many points may serve, fastest first, and the latency of one as profiled, in milliseconds (0: there is none).
  std::size_t points() const { return adaptivenet_point_count(model_.get()); }
  double point_ms(std::size_t point) const { return adaptivenet_point_ms(model_.get(), point); }

  // What the whole network took when it was profiled, in milliseconds.
  double whole_ms() const { return adaptivenet_whole_ms(model_.get()); }

  // Sets a latency budget in milliseconds for the median, and no other; or all budgets. Returns at once; the swap
  // follows. See `adaptivenet_set_budgets`.
  void set_budget(double latency_ms) { set_budgets({latency_ms, 0, 0, 0}); }
  void set_budgets(const adaptivenet_budgets& budgets) { require(adaptivenet_set_budgets(model_.get(), &budgets)); }

  // Lets a point serve, less than `points()`, or the subnet of these blocks in order, until budgets are set. Returns at
  // once; the swap follows. See `adaptivenet_activate`.
  void activate(std::size_t point) { require(adaptivenet_activate(model_.get(), point)); }
  void activate(const std::vector<std::string>& blocks) {
    std::vector<const char*> names;
    for (const std::string& block : blocks) names.push_back(block.c_str());
    require(adaptivenet_activate_subnet(model_.get(), names.data(), names.size()));
  }

  // Tells what sensors say now: `adaptivenet_no_signals()` with what is known filled in. Returns at once.
  void observe(const adaptivenet_signals& signals) { require(adaptivenet_observe(model_.get(), &signals)); }

  // Blocks until what was asked for serves, or another point in its place. Throws when what was asked for by name
  // cannot be loaded. See `adaptivenet_wait`.
  void wait() { require(adaptivenet_wait(model_.get())); }

  /**
   * Runs the subnet that serves. Never waits for a load; several threads take turns. See `adaptivenet_infer`.
   *
   * @param[in] input Contiguous values of the type of `input()`: std::vector, std::array, std::span. Only read.
   * @param[out] output Contiguous memory for as many bytes as `output()` tells, written to; not resized.
   * @param[in] input_order The order in which the input lies in memory, of four dimensions.
   * @param[in] output_order The order in which the output is written, of four dimensions.
   *
   * @returns How many milliseconds it took, from input to output, and which point ran.
   */
  template <typename Input, typename Output>
  adaptivenet_inference infer(const Input& input, Output&& output, adaptivenet_order input_order = ADAPTIVENET_NCHW,
                              adaptivenet_order output_order = ADAPTIVENET_NCHW) {
    adaptivenet_inference inference;
    require(adaptivenet_infer(model_.get(), input.data(), input.size() * sizeof(*input.data()), input_order,
                              output.data(), output.size() * sizeof(*output.data()), output_order, &inference));
    return inference;
  }

  // The model at this moment: what serves, why, and what went wrong last.
  adaptivenet_status status() const {
    adaptivenet_status status;
    require(adaptivenet_get_status(model_.get(), &status));
    return status;
  }

 private:
  struct Close {
    void operator()(adaptivenet_model* model) const { adaptivenet_close(model); }
  };

  explicit ServedModel(adaptivenet_model* model) : model_(model) {}

  static void require(adaptivenet_code code) {
    if (code != ADAPTIVENET_OK) throw ModelError(code, adaptivenet_last_error());
  }

  template <typename Of>
  adaptivenet_tensor tensor(Of of) const {
    adaptivenet_tensor tensor;
    require(of(model_.get(), &tensor));
    return tensor;
  }

  std::unique_ptr<adaptivenet_model, Close> model_;
};

}  // namespace adaptivenet
