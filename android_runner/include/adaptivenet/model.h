// AdaptiveNet's serving core for C++17 and later: a thin face over adaptivenet.h, which documents everything. It is
// compiled into the program that includes it, so that program and library may use different C++ libraries.
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

// What every function below throws when its counterpart fails.
class ModelError : public std::runtime_error {
 public:
  ModelError(adaptivenet_code code, const char* message) : std::runtime_error(message), code_(code) {}
  adaptivenet_code code() const noexcept { return code_; }

 private:
  adaptivenet_code code_;
};

// The values of an input, in something contiguous of float, std::int64_t, std::int32_t or bool (std::vector<bool> is
// not), which must live until they were written.
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

class ServedModel {
 public:
  // See adaptivenet_open: returns when a subnet serves.
  static ServedModel open(const std::string& pack_folder, const std::string& profile_path,
                          const adaptivenet_budgets& budgets, adaptivenet_options options = {}) {
    options.size = sizeof options;
    adaptivenet_model* model = nullptr;
    require(adaptivenet_open(pack_folder.c_str(), profile_path.c_str(), &budgets, &options, &model));
    return ServedModel(model);
  }

  // See adaptivenet_open_archive: a pack in one file, or in a part of one.
  static ServedModel open(int descriptor, std::int64_t offset, std::int64_t length, std::string_view profile,
                          const adaptivenet_budgets& budgets, adaptivenet_options options = {}) {
    options.size = sizeof options;
    adaptivenet_model* model = nullptr;
    require(adaptivenet_open_archive(descriptor, offset, length, profile.data(), profile.size(), &budgets, &options,
                                     &model));
    return ServedModel(model);
  }

  adaptivenet_tensor input() const { return tensor(adaptivenet_input); }
  adaptivenet_tensor output() const { return tensor(adaptivenet_output); }
  // Where the input is a row of several: how many, and the name and the form of each.
  std::size_t inputs() const { return adaptivenet_input_count(model_.get()); }
  std::pair<std::string, adaptivenet_tensor> input(std::size_t at) const {
    const char* name = nullptr;
    adaptivenet_tensor tensor;
    require(adaptivenet_named_input(model_.get(), at, &name, &tensor));
    return {name, tensor};
  }
  // See adaptivenet_write_row. `row` is contiguous floats; `values` makes what it takes.
  template <typename Row>
  void write_row(std::initializer_list<adaptivenet_values> given, Row&& row) const {
    float* const to = row.data();
    require(adaptivenet_write_row(model_.get(), given.begin(), given.size(), to, row.size() * sizeof *to));
  }

  std::size_t points() const { return adaptivenet_point_count(model_.get()); }
  double point_ms(std::size_t point) const { return adaptivenet_point_ms(model_.get(), point); }
  double whole_ms() const { return adaptivenet_whole_ms(model_.get()); }

  // At once; the swap follows.
  void set_budget(double latency_ms) { set_budgets({latency_ms, 0, 0, 0}); }
  void set_budgets(const adaptivenet_budgets& budgets) { require(adaptivenet_set_budgets(model_.get(), &budgets)); }
  void activate(std::size_t point) { require(adaptivenet_activate(model_.get(), point)); }
  void activate(const std::vector<std::string>& blocks) {
    std::vector<const char*> names;
    for (const std::string& block : blocks) names.push_back(block.c_str());
    require(adaptivenet_activate_subnet(model_.get(), names.data(), names.size()));
  }
  void observe(const adaptivenet_signals& signals) { require(adaptivenet_observe(model_.get(), &signals)); }

  void wait() { require(adaptivenet_wait(model_.get())); }

  // `input` and `output` are contiguous: std::vector, std::array, std::span. Never waits for a load.
  template <typename Input, typename Output>
  adaptivenet_inference infer(const Input& input, Output&& output, adaptivenet_order order = ADAPTIVENET_NCHW) {
    adaptivenet_inference inference;
    require(adaptivenet_infer(model_.get(), input.data(), input.size() * sizeof(*input.data()), order, output.data(),
                              output.size() * sizeof(*output.data()), &inference));
    return inference;
  }

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
