#include "executorch_engine.h"

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "error.h"
#include "executorch_threads.h"
#include "last_words.h"

namespace adaptivenet {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::extension::BufferDataLoader;
using executorch::extension::make_tensor_ptr;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using EtTensor = executorch::aten::Tensor;

constexpr std::pair<DType, ScalarType> kTypes[] = {
    {DType::kFloat32, ScalarType::Float}, {DType::kFloat16, ScalarType::Half}, {DType::kBFloat16, ScalarType::BFloat16},
    {DType::kInt64, ScalarType::Long},    {DType::kInt32, ScalarType::Int},    {DType::kInt8, ScalarType::Char},
    {DType::kUInt8, ScalarType::Byte},    {DType::kBool, ScalarType::Bool},
};

ScalarType to_executorch(DType dtype) {
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& pair) { return pair.first == dtype; })->second;
}

DType from_executorch(const std::string& what, ScalarType type) {
  const auto* found =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& pair) { return pair.second == type; });
  if (found == std::end(kTypes)) {
    throw PackError(what + " has a tensor of ExecuTorch's type " + std::to_string(static_cast<int>(type)) +
                    ", which no pack may have; export the pack again");
  }
  return found->first;
}

std::string in_words(et::Error error) {
  return std::string(et::to_string(error)) + " (" + std::to_string(static_cast<int>(error)) + ")";
}

class EtFeature final : public Feature {
 public:
  explicit EtFeature(EtTensor borrowed) : tensor_(std::move(borrowed)) {}
  explicit EtFeature(TensorPtr owned) : owner_(std::move(owned)), tensor_(*owner_) {}

  const EtTensor& tensor() const { return tensor_; }

 private:
  TensorPtr owner_;  // empty for a tensor in the memory of a program
  EtTensor tensor_;
};

const EtTensor& tensor_of(const Feature& feature) { return static_cast<const EtFeature&>(feature).tensor(); }

std::vector<executorch::aten::DimOrderType> dim_order(std::size_t dimensions, Layout layout) {
  if (dimensions == 4 && layout == Layout::kChannelsLast) return {0, 2, 3, 1};
  std::vector<executorch::aten::DimOrderType> order(dimensions);
  for (std::size_t index = 0; index < dimensions; ++index) {
    order[index] = static_cast<executorch::aten::DimOrderType>(index);
  }
  return order;
}

bool in_layout(executorch::aten::ArrayRef<executorch::aten::DimOrderType> order, Layout layout) {
  const auto wanted = dim_order(order.size(), layout);
  return std::equal(order.begin(), order.end(), wanted.begin(), wanted.end());
}

// The bytes of a 4-D tensor in the other layout: an (n, a, b) array of elements becomes (n, b, a).
void swap_inner(const std::byte* from, std::byte* to, std::size_t n, std::size_t a, std::size_t b, std::size_t size) {
  for (std::size_t image = 0; image < n; ++image, from += a * b * size, to += a * b * size) {
    for (std::size_t i = 0; i < a; ++i) {
      for (std::size_t j = 0; j < b; ++j) std::memcpy(to + (j * a + i) * size, from + (i * b + j) * size, size);
    }
  }
}

// Copies the bytes of a tensor of the shape of `like` to `to`, in `layout`: as they are, or from the other layout.
void copy(const std::byte* from, bool as_they_are, std::byte* to, const EtTensor& like, Layout layout) {
  if (as_they_are) {
    std::memcpy(to, from, like.nbytes());
    return;
  }
  const std::size_t channels = like.size(1);
  const std::size_t pixels = static_cast<std::size_t>(like.size(2)) * like.size(3);
  const bool to_last = layout == Layout::kChannelsLast;
  swap_inner(from, to, like.size(0), to_last ? channels : pixels, to_last ? pixels : channels, like.element_size());
}

void copy(const EtTensor& from, std::byte* to, Layout layout) {
  copy(static_cast<const std::byte*>(from.const_data_ptr()), in_layout(from.dim_order(), layout), to, from, layout);
}

TensorPtr empty(const std::vector<executorch::aten::SizesType>& sizes, ScalarType type, Layout layout) {
  std::size_t bytes = executorch::runtime::elementSize(type);
  for (const auto size : sizes) bytes *= size;
  return make_tensor_ptr(sizes, std::vector<std::uint8_t>(bytes), dim_order(sizes.size(), layout), {}, type);
}

TensorPtr copy_in(const EtTensor& tensor, Layout layout) {
  TensorPtr made = empty({tensor.sizes().begin(), tensor.sizes().end()}, tensor.scalar_type(), layout);
  copy(tensor, static_cast<std::byte*>(made->mutable_data_ptr()), layout);
  return made;
}

class EtProgram final : public Program {
 public:
  EtProgram(std::string what, MappedFile file, Layout layout, const Signature& signature)
      : what_(std::move(what)),
        file_(std::move(file)),
        layout_(layout),
        module_(std::make_unique<BufferDataLoader>(file_.bytes().data(), file_.bytes().size())) {
    const Doing doing(what_.c_str(), "loaded");
    check(module_.load(et::Program::Verification::InternalConsistency), "does not load");
    check(module_.load_method("forward"), "does not load");
    const auto meta = module_.method_meta("forward");
    check(meta.error(), "does not load");
    check_signature(what_, signature, signature_of(*meta));
    inputs_.resize(signature.takes.size());
    converted_.resize(signature.takes.size());
  }

  FeaturePtr run(std::span<const FeaturePtr> operands, bool keep) override {
    // A tensor in another layout than the exported one is computed on in silence, and wrongly.
    for (std::size_t index = 0; index < operands.size(); ++index) {
      const EtTensor& given = tensor_of(*operands[index]);
      if (given.dim() == 4 && !in_layout(given.dim_order(), layout_)) {
        converted_[index] = copy_in(given, layout_);
        inputs_[index] = *converted_[index];
      } else {
        inputs_[index] = given;
      }
    }
    const Doing doing(what_.c_str(), "run");
    auto outputs = module_.execute("forward", inputs_);
    check(outputs.error(), "failed");
    EtTensor output = (*outputs)[0].toTensor();
    if (keep) return std::make_shared<EtFeature>(copy_in(output, layout_));
    return std::make_shared<EtFeature>(std::move(output));
  }

 private:
  void check(et::Error error, const char* did) const {
    if (error != et::Error::Ok) throw DeviceError(what_ + " " + did + " on executorch: " + in_words(error));
  }

  TensorType type_of(const et::Result<et::TensorInfo>& info) const {
    check(info.error(), "does not load");
    if (info->sizes().size() == 4 && !in_layout({info->dim_order().data(), info->dim_order().size()}, layout_)) {
      throw PackError(what_ + " has a 4-D tensor in another memory order than its pack says; export the pack again");
    }
    return {Shape(info->sizes().begin(), info->sizes().end()), from_executorch(what_, info->scalar_type())};
  }

  Signature signature_of(const et::MethodMeta& meta) const {
    Signature own;
    for (std::size_t index = 0; index < meta.num_inputs(); ++index) {
      own.takes.push_back(type_of(meta.input_tensor_meta(index)));
    }
    for (std::size_t index = 0; index < meta.num_outputs(); ++index) {
      own.gives.push_back(type_of(meta.output_tensor_meta(index)));
    }
    return own;
  }

  std::string what_;
  MappedFile file_;  // the module points into it
  Layout layout_;
  Module module_;
  std::vector<et::EValue> inputs_;
  std::vector<TensorPtr> converted_;  // inputs that came in the other layout
};

class EtEngine final : public Engine {
 public:
  explicit EtEngine(int threads) {
    executorch::runtime::runtime_init();
    auto* pool = executorch::extension::threadpool::get_threadpool();
    // Always anew, which takes another count in between: the pool is one for the process, and its threads stay on the
    // cores where the thread was that made them. Without an engine nothing is loaded that could hold on to it.
    const auto wanted = static_cast<std::uint32_t>(threads);
    if (!pool->_unsafe_reset_threadpool(wanted + 1) || !pool->_unsafe_reset_threadpool(wanted) ||
        pool->get_thread_count() != wanted) {
      throw DeviceError("executorch does not run on " + std::to_string(threads) + " threads here; ask for fewer");
    }
  }

  std::string name() const override { return "executorch"; }
  std::string version() const override { return executorch_version(); }
  std::string backend() const override { return "executorch"; }

  std::unique_ptr<Program> load(const std::string& what, MappedFile file, Layout layout,
                                const Signature& signature) override {
    return std::make_unique<EtProgram>(what, std::move(file), layout, signature);
  }

  FeaturePtr feature(const TensorView& view, Layout layout) override {
    const std::vector<executorch::aten::SizesType> sizes(view.type.shape.begin(), view.type.shape.end());
    TensorPtr made = empty(sizes, to_executorch(view.type.dtype), layout);
    const bool as_they_are = in_layout(made->dim_order(), Layout::kContiguous);
    copy(view.data, as_they_are, static_cast<std::byte*>(made->mutable_data_ptr()), *made, layout);
    return std::make_shared<EtFeature>(std::move(made));
  }

  Tensor tensor(const Feature& feature) override {
    const EtTensor& given = tensor_of(feature);
    Tensor made;
    made.type.shape.assign(given.sizes().begin(), given.sizes().end());
    made.type.dtype = from_executorch("a feature", given.scalar_type());
    made.data.resize(given.nbytes());
    copy(given, made.data.data(), Layout::kContiguous);
    return made;
  }
};

}  // namespace

std::unique_ptr<Engine> make_executorch_engine(int threads) { return std::make_unique<EtEngine>(threads); }

std::string executorch_version() { return EXECUTORCH_VERSION; }

}  // namespace adaptivenet
