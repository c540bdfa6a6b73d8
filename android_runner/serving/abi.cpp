// The C interface of include/adaptivenet/adaptivenet.h, over Model.
#include <adaptivenet/adaptivenet.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/archive.h"
#include "core/error.h"
#include "core/files.h"
#include "core/inputs.h"
#include "core/pack.h"
#include "core/quote.h"
#include "core/version.h"
#include "serving/model.h"
#include "serving/profile.h"

struct adaptivenet_model {
  std::vector<adaptivenet::PointToServe> points;
  double whole_ms;
  adaptivenet::Model model;
};

namespace adaptivenet {
namespace {

constexpr std::size_t kProfileLimit = std::size_t{64} << 20;  // bytes

thread_local std::string last_error;

struct BadArgument : Error {
  explicit BadArgument(const std::string& message) : Error("BadArgument", message) {}
};

void require_given(const void* pointer, const char* name) {
  if (pointer == nullptr) throw BadArgument(std::string(name) + " is null");
}

adaptivenet_code code_of(const Error& error) {
  const std::string_view kind = error.kind();
  if (kind == "PackError") return ADAPTIVENET_BAD_PACK;
  if (kind == "ProfileError") return ADAPTIVENET_BAD_PROFILE;
  if (kind == "BudgetError") return ADAPTIVENET_BAD_BUDGET;
  return kind == "DeviceError" ? ADAPTIVENET_FAILED : ADAPTIVENET_BAD_ARGUMENT;
}

// What `work()` throws, as a code.
adaptivenet_code coded(auto&& work) noexcept {
  adaptivenet_code code = ADAPTIVENET_FAILED;
  try {
    try {
      work();
      return ADAPTIVENET_OK;
    } catch (const Error& error) {
      code = code_of(error);
      last_error = error.what();
    } catch (const std::bad_alloc&) {
      last_error = "there is no memory left";
    } catch (const std::exception& error) {
      last_error = error.what();
    } catch (...) {
      last_error = "the engine failed and does not say why";
    }
  } catch (...) {  // no memory for the sentence
    last_error.clear();
  }
  return code;
}

Budgets budgets_from(const adaptivenet_budgets* given) {
  require_given(given, "budgets");
  const auto any_or = [](double value) { return value == 0 ? std::nullopt : std::optional(value); };
  const Budgets budgets{given->latency_ms, given->percentile == 0 ? 50 : given->percentile, any_or(given->memory_mb),
                        any_or(given->energy_mj)};
  budgets.require();
  return budgets;
}

// The fields that the caller knows; the others are zero.
adaptivenet_options options_from(const adaptivenet_options* given) {
  adaptivenet_options options{};
  if (given == nullptr) return options;
  if (given->size < sizeof given->size) throw BadArgument("options.size must be sizeof(adaptivenet_options)");
  std::memcpy(&options, given, std::min(given->size, sizeof options));
  if (options.threads < 0 || options.threads > 256) {
    throw BadArgument("options.threads must be 0 to 256: got " + std::to_string(options.threads));
  }
  if (!(options.memory_limit_mb >= 0 && options.memory_limit_mb < 1e12)) {
    throw BadArgument("options.memory_limit_mb must be a number from 0: got " +
                      std::to_string(options.memory_limit_mb));
  }
  return options;
}

std::string profile_in(const std::filesystem::path& file) {
  try {
    return read_text(file, kProfileLimit);
  } catch (const std::runtime_error& error) {
    throw ProfileError(std::string("the profile ") + error.what());
  }
}

// The engine that is asked for, else that of the profile.
std::string engine_for(const adaptivenet_options& options, const ServedProfile& profile) {
  const std::string name = options.engine == nullptr ? profile.engine : options.engine;
  std::string has;
  for (const auto& [known, version] : engines()) {
    if (known == name) return name;
    has += (has.empty() ? "" : ", ") + known;
  }
  if (options.engine != nullptr) {
    throw BadArgument("options.engine is " + quote(name) + "; this library has: " + has);
  }
  throw ProfileError("the profile was made with the engine " + quote(name) + "; this library has: " + has);
}

std::unique_ptr<adaptivenet_model> open(Pack pack, std::string_view text, const Budgets& budgets,
                                        const adaptivenet_options& options) {
  ServedProfile profile = read_profile(text);
  require_made_for(profile, pack);
  const std::string name = engine_for(options, profile);
  // ExecuTorch's threads are the process's: without a number they stay as they are, and must be those of the profile.
  const int threads = options.threads == 0 && name != "executorch" ? profile.threads : options.threads;
  const bool compares = options.of_another_device == 0;
  if (compares) require_same_device(profile, name, threads == 0 ? profile.threads : threads);
  std::shared_ptr<Engine> engine = make_engine(name, threads);
  if (compares) require_same_device(profile, name, engine->threads());
  LoaderOptions loading;
  loading.budgets = budgets;
  loading.limit_bytes = static_cast<std::int64_t>(std::ceil(options.memory_limit_mb * 1e6));  // 0: no limit
  if (options.loader_cores != nullptr) {
    loading.cores.assign(options.loader_cores, options.loader_cores + options.loader_core_count);
  }
  std::unique_ptr<adaptivenet_model> made(new adaptivenet_model{
      profile.points, profile.whole_ms, Model(std::move(pack), std::move(engine), profile.points, std::move(loading))});
  made->model.wait();
  return made;
}

void tell(const TensorType& type, adaptivenet_tensor* tensor) {
  require_given(tensor, "tensor");
  if (type.shape.size() > std::size(tensor->shape)) throw BadArgument("the tensor has more than 8 dimensions");
  *tensor = {};
  tensor->dtype = name_of(type.dtype);
  tensor->bytes = static_cast<std::size_t>(bytes_of(type));
  tensor->rank = type.shape.size();
  std::copy(type.shape.begin(), type.shape.end(), tensor->shape);
}

DType dtype_of_input(const char* name) {
  require_given(name, "values.dtype");
  for (const DType dtype : {DType::kFloat32, DType::kInt64, DType::kInt32, DType::kBool}) {
    if (std::strcmp(name, name_of(dtype)) == 0) return dtype;
  }
  throw BadArgument("values.dtype is " + quote(name) + "; it must be float32, int64, int32 or bool");
}

NamedValues values_from(const adaptivenet_values& given) {
  require_given(given.name, "values.name");
  if (given.count > 0) require_given(given.values, "values.values");
  return {given.name, dtype_of_input(given.dtype), static_cast<const std::byte*>(given.values), given.count};
}

Layout layout_of(adaptivenet_order order, const char* name) {
  if (order == ADAPTIVENET_NHWC) return Layout::kChannelsLast;
  if (order == ADAPTIVENET_NCHW) return Layout::kContiguous;
  throw BadArgument(std::string(name) + " must be ADAPTIVENET_NCHW or ADAPTIVENET_NHWC: got " +
                    std::to_string(static_cast<int>(order)));
}

std::int64_t number_of(std::size_t point) { return point == kNoPoint ? -1 : static_cast<std::int64_t>(point); }

}  // namespace
}  // namespace adaptivenet

using adaptivenet::coded;
using adaptivenet::require_given;

const char* adaptivenet_last_error(void) { return adaptivenet::last_error.c_str(); }

const char* adaptivenet_version(void) { return RUNNER_VERSION; }

adaptivenet_code adaptivenet_open(const char* pack_folder, const char* profile_path, const adaptivenet_budgets* budgets,
                                  const adaptivenet_options* options, adaptivenet_model** model) {
  return coded([&] {
    require_given(model, "model");
    *model = nullptr;
    require_given(pack_folder, "pack_folder");
    require_given(profile_path, "profile_path");
    const auto asked = adaptivenet::budgets_from(budgets);
    const auto how = adaptivenet::options_from(options);
    const std::filesystem::path folder = pack_folder;
    auto pack = adaptivenet::Pack::open(folder / "manifest.json", folder / "blobs");
    *model = adaptivenet::open(std::move(pack), adaptivenet::profile_in(profile_path), asked, how).release();
  });
}

adaptivenet_code adaptivenet_open_archive(int descriptor, int64_t offset, int64_t length, const char* profile,
                                          size_t profile_bytes, const adaptivenet_budgets* budgets,
                                          const adaptivenet_options* options, adaptivenet_model** model) {
  return coded([&] {
    require_given(model, "model");
    *model = nullptr;
    require_given(profile, "profile");
    const auto asked = adaptivenet::budgets_from(budgets);
    const auto how = adaptivenet::options_from(options);
    auto pack = adaptivenet::Pack::open(std::make_shared<adaptivenet::Archive>(descriptor, offset, length));
    *model = adaptivenet::open(std::move(pack), {profile, profile_bytes}, asked, how).release();
  });
}

void adaptivenet_close(adaptivenet_model* model) { delete model; }

adaptivenet_code adaptivenet_input(const adaptivenet_model* model, adaptivenet_tensor* tensor) {
  return coded([&] {
    require_given(model, "model");
    adaptivenet::tell(model->model.pack().graph().cuts().front(), tensor);
  });
}

adaptivenet_code adaptivenet_output(const adaptivenet_model* model, adaptivenet_tensor* tensor) {
  return coded([&] {
    require_given(model, "model");
    adaptivenet::tell(model->model.pack().graph().cuts().back(), tensor);
  });
}

size_t adaptivenet_input_count(const adaptivenet_model* model) {
  return model == nullptr ? 0 : model->model.pack().inputs().size();
}

adaptivenet_code adaptivenet_named_input(const adaptivenet_model* model, size_t at, const char** name,
                                         adaptivenet_tensor* tensor) {
  return coded([&] {
    require_given(model, "model");
    require_given(name, "name");
    const auto& inputs = model->model.pack().inputs();
    if (at >= inputs.size()) {
      throw adaptivenet::BadArgument("there is no input " + std::to_string(at) + ": the pack names " +
                                     std::to_string(inputs.size()));
    }
    adaptivenet::tell(inputs[at].type, tensor);
    *name = inputs[at].name.c_str();
  });
}

adaptivenet_code adaptivenet_write_row(const adaptivenet_model* model, const adaptivenet_values* values, size_t count,
                                       float* row, size_t row_bytes) {
  return coded([&] {
    require_given(model, "model");
    require_given(row, "row");
    if (count > 0) require_given(values, "values");
    model->model.write_row(count, [values](std::size_t at) { return adaptivenet::values_from(values[at]); },
                           {row, row_bytes / sizeof *row});
  });
}

size_t adaptivenet_point_count(const adaptivenet_model* model) { return model == nullptr ? 0 : model->points.size(); }

double adaptivenet_point_ms(const adaptivenet_model* model, size_t point) {
  return point < adaptivenet_point_count(model) ? model->points[point].costs.latency_ms : 0;
}

double adaptivenet_whole_ms(const adaptivenet_model* model) { return model == nullptr ? 0 : model->whole_ms; }

adaptivenet_code adaptivenet_set_budgets(adaptivenet_model* model, const adaptivenet_budgets* budgets) {
  return coded([&] {
    require_given(model, "model");
    model->model.set_budgets(adaptivenet::budgets_from(budgets));
  });
}

adaptivenet_code adaptivenet_activate(adaptivenet_model* model, size_t point) {
  return coded([&] {
    require_given(model, "model");
    if (point >= model->points.size()) {
      throw adaptivenet::BadArgument("there is no point " + std::to_string(point) + ": the model has " +
                                     std::to_string(model->points.size()));
    }
    model->model.activate(model->points[point].subnet);
  });
}

adaptivenet_code adaptivenet_activate_subnet(adaptivenet_model* model, const char* const* blocks, size_t count) {
  return coded([&] {
    require_given(model, "model");
    require_given(blocks, "blocks");
    for (std::size_t at = 0; at < count; ++at) require_given(blocks[at], "a block's name");
    model->model.activate({blocks, blocks + count});
  });
}

adaptivenet_code adaptivenet_wait(adaptivenet_model* model) {
  return coded([&] {
    require_given(model, "model");
    model->model.wait();
  });
}

adaptivenet_code adaptivenet_infer(adaptivenet_model* model, const void* input, size_t input_bytes,
                                   adaptivenet_order input_order, void* output, size_t output_bytes,
                                   adaptivenet_order output_order, adaptivenet_inference* inference) {
  return coded([&] {
    require_given(model, "model");
    require_given(input, "input");
    require_given(output, "output");
    const auto given = adaptivenet::layout_of(input_order, "input_order");
    const auto wanted = adaptivenet::layout_of(output_order, "output_order");
    const adaptivenet::Ran ran = model->model.infer({static_cast<const std::byte*>(input), input_bytes}, given,
                                                    {static_cast<std::byte*>(output), output_bytes}, wanted);
    if (inference != nullptr) *inference = {ran.ms, adaptivenet::number_of(ran.point)};
  });
}

adaptivenet_signals adaptivenet_no_signals(void) {
  constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
  return {kNothing, kNothing, kNothing, kNothing, kNothing, kNothing, -1, kNothing, 0};
}

adaptivenet_code adaptivenet_observe(adaptivenet_model* model, const adaptivenet_signals* signals) {
  return coded([&] {
    require_given(model, "model");
    require_given(signals, "signals");
    const auto said = [](double value) { return value == value ? std::optional(value) : std::nullopt; };
    const auto charging = signals->charging < 0 ? std::nullopt : std::optional(signals->charging != 0);
    model->model.sense({said(signals->free_mb), said(signals->pressure), said(signals->celsius),
                        said(signals->throttles_at), said(signals->headroom), said(signals->battery), charging,
                        said(signals->waited), signals->states});
  });
}

adaptivenet_code adaptivenet_get_status(const adaptivenet_model* model, adaptivenet_status* status) {
  return coded([&] {
    require_given(model, "model");
    require_given(status, "status");
    const adaptivenet::ServingStatus now = model->model.status();
    status->point = adaptivenet::number_of(now.point);
    status->loading = adaptivenet::number_of(now.loading_point);
    status->slowdown = now.decision.slowdown;
    status->resident_bytes = now.resident_bytes;
    status->switches = now.switches;
    std::snprintf(status->why, sizeof status->why, "%s", now.why.c_str());
    std::snprintf(status->error, sizeof status->error, "%s", now.error.c_str());
  });
}
