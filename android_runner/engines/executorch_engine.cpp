#include "engines/executorch_engine.h"

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/core/exec_aten/util/dim_order_util.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "core/crash_note.h"
#include "core/error.h"
#include "engines/buffers.h"
#include "engines/executorch_threads.h"

namespace adaptivenet {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::extension::BufferDataLoader;
using executorch::extension::MallocMemoryAllocator;
using EtTensor = executorch::aten::Tensor;
using EtTensorImpl = executorch::aten::TensorImpl;

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

std::vector<executorch::aten::DimOrderType> dim_order(std::size_t dimensions, Layout layout) {
  if (dimensions == 4 && layout == Layout::kChannelsLast) return {0, 2, 3, 1};
  std::vector<executorch::aten::DimOrderType> order(dimensions);
  for (std::size_t index = 0; index < dimensions; ++index) {
    order[index] = static_cast<executorch::aten::DimOrderType>(index);
  }
  return order;
}

// What a tensor is, apart from where its bytes are.
struct Form {
  Form(std::vector<executorch::aten::SizesType> of, ScalarType of_type, Layout layout)
      : sizes(std::move(of)), order(dim_order(sizes.size(), layout)), strides(sizes.size()), type(of_type) {
    et::dim_order_to_stride_nocheck(sizes.data(), order.data(), sizes.size(), strides.data());
    bytes = et::elementSize(type);
    for (const auto size : sizes) bytes *= size;
  }

  std::vector<executorch::aten::SizesType> sizes;
  std::vector<executorch::aten::DimOrderType> order;
  std::vector<executorch::aten::StridesType> strides;
  ScalarType type;
  std::size_t bytes;
};
using FormPtr = std::shared_ptr<Form>;  // not const, because ExecuTorch's tensors are not; nobody changes it

class EtFeature final : public Feature {
 public:
  // A tensor in the memory of a program.
  explicit EtFeature(EtTensor borrowed) : tensor_(std::move(borrowed)) {}

  // A tensor in a buffer of its own, whose bytes are still to be written.
  EtFeature(FormPtr form, Buffer buffer)
      : form_(std::move(form)),
        buffer_(std::move(buffer)),
        impl_(std::in_place, form_->type, form_->sizes.size(), form_->sizes.data(), buffer_->data(),
              form_->order.data(), form_->strides.data()),
        tensor_(&*impl_) {}

  const EtTensor& tensor() const { return tensor_; }
  std::byte* data() const { return buffer_->data(); }

 private:
  FormPtr form_;
  std::optional<Buffer> buffer_;
  std::optional<EtTensorImpl> impl_;
  EtTensor tensor_;
};
using EtFeaturePtr = std::shared_ptr<EtFeature>;

EtFeaturePtr new_feature(const FormPtr& form, const std::shared_ptr<Buffers>& buffers) {
  return buffers->make<EtFeature>(form, buffers->take(form->bytes));
}

const EtTensor& tensor_of(const Feature& feature) { return static_cast<const EtFeature&>(feature).tensor(); }

bool in_layout(executorch::aten::ArrayRef<executorch::aten::DimOrderType> order, Layout layout) {
  const bool last = order.size() == 4 && layout == Layout::kChannelsLast;
  for (std::size_t index = 0; index < order.size(); ++index) {
    const std::size_t wanted = !last || index == 0 ? index : index == 3 ? 1 : index + 1;
    if (order[index] != wanted) return false;
  }
  return true;
}

// Copies the bytes of a tensor of the shape of `like` to `to`, in `layout`: as they are, or from the other layout.
void copy(const std::byte* from, bool as_they_are, std::byte* to, const EtTensor& like, Layout layout) {
  if (as_they_are) {
    std::memcpy(to, from, like.nbytes());
    return;
  }
  const std::int64_t shape[] = {like.size(0), like.size(1), like.size(2), like.size(3)};
  const Layout other = layout == Layout::kChannelsLast ? Layout::kContiguous : Layout::kChannelsLast;
  copy_in_layout(shape, like.element_size(), from, other, to, layout);
}

void copy(const EtTensor& from, std::byte* to, Layout layout) {
  copy(static_cast<const std::byte*>(from.const_data_ptr()), in_layout(from.dim_order(), layout), to, from, layout);
}

// Compilers warn of `num_instructions`, which ExecuTorch calls experimental.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
bool only_calls_xnnpack(const et::MethodMeta& meta) {
  return meta.num_instructions() == 1 && meta.uses_backend("XnnpackBackend");
}
#pragma GCC diagnostic pop

// The memory that a program plans for what it computes, and that its method was loaded with.
class PlannedMemory {
 public:
  // Throws std::bad_alloc.
  explicit PlannedMemory(const et::MethodMeta& meta) {
    for (std::size_t index = 0; index < meta.num_memory_planned_buffers(); ++index) {
      const auto bytes = meta.memory_planned_buffer_size(index);
      if (!bytes.ok() || *bytes < 0) throw std::bad_alloc();
      const auto size = static_cast<std::size_t>(*bytes);
      // What is never written to takes no memory: see `EtProgram::gives_anywhere_`.
      memory_.push_back(allocate(size));
      spans_.emplace_back(reinterpret_cast<std::uint8_t*>(memory_.back().get()), size);
    }
    allocator_.emplace(et::Span<et::Span<std::uint8_t>>(spans_.data(), spans_.size()));
  }

  et::HierarchicalAllocator* allocator() { return &*allocator_; }

 private:
  std::vector<Memory> memory_;
  std::vector<et::Span<std::uint8_t>> spans_;
  std::optional<et::HierarchicalAllocator> allocator_;
};

// What XNNPACK computes on the way lies in a workspace. By itself it has one for the process, which is locked while a
// program runs and also while one is loaded, so that a load stops all others. In the mode `per model` there is one for
// each method allocator. So all programs that share scratch memory are loaded with this one.
class EtScratch final : public Scratch, public et::MemoryAllocator {
 public:
  EtScratch() : MemoryAllocator(0, nullptr) {
    options_.set_option("workspace_sharing_mode", kPerModel);
    for_backends_.set_options("XnnpackBackend", options_.view());
  }

  // Of the program that is loaded now: its memory comes from its own allocator, and goes with the program.
  void* allocate(std::size_t size, std::size_t alignment) override {
    return loads_ == nullptr ? nullptr : loads_->allocate(size, alignment);
  }

  const et::LoadBackendOptionsMap* options() const { return &for_backends_; }

  // `load()`, while this allocates from `own`.
  auto with(et::MemoryAllocator& own, auto&& load) {
    loads_ = &own;
    auto loaded = load();
    loads_ = nullptr;
    return loaded;
  }

 private:
  static constexpr int kPerModel = 1;

  et::MemoryAllocator* loads_ = nullptr;
  et::BackendOptions<1> options_;
  et::LoadBackendOptionsMap for_backends_;
};

MappedFile aligned(MappedFile file) {
  file.align(kAlignment);
  return file;
}

class EtProgram final : public Program {
 public:
  EtProgram(std::string what, MappedFile file, Layout layout, const Signature& signature,
            std::shared_ptr<Buffers> buffers, std::shared_ptr<EtScratch> scratch)
      : what_(std::move(what)),
        file_(aligned(std::move(file))),
        layout_(layout),
        buffers_(std::move(buffers)),
        scratch_(std::move(scratch)),
        loader_(file_.bytes().data(), file_.bytes().size()) {
    const CrashNote note(what_.c_str(), "loaded");
    auto program = et::Program::load(&loader_, et::Program::Verification::InternalConsistency);
    check(program.error(), "does not load");
    program_.emplace(std::move(*program));
    const auto meta = program_->method_meta("forward");
    check(meta.error(), "does not load");
    load_method(*meta);
    check_signature(what_, signature, signature_of(*meta));
    for (std::size_t index = 0; index < meta->num_inputs(); ++index) {
      takes_.push_back(form_of(*meta->input_tensor_meta(index)));
    }
    const auto output = meta->output_tensor_meta(0);
    gives_ = form_of(*output);
    gives_anywhere_ = output->is_memory_planned() && only_calls_xnnpack(*meta);
    // XNNPACK has its own copy of the weights, in the order in which it reads them. What is read of the file again is
    // fetched again.
    file_.leave_memory();
  }

  FeaturePtr run(std::span<const FeaturePtr> operands, bool keep) override {
    // Until the call is over, the program reads its inputs where they are (where it was exported so).
    converted_.clear();
    for (std::size_t index = 0; index < operands.size(); ++index) {
      const EtTensor* given = &tensor_of(*operands[index]);
      // ExecuTorch does not notice a tensor in another layout than the exported one: it computes wrong values.
      if (given->dim() == 4 && !in_layout(given->dim_order(), layout_)) {
        converted_.push_back(copied(*given, takes_[index]));
        given = &converted_.back()->tensor();
      }
      check(method_->set_input(et::EValue(*given), index), "failed");
    }
    const EtTensor own = method_->get_output(0).toTensor();
    EtFeaturePtr output;
    if (gives_anywhere_) {
      output = new_feature(gives_, buffers_);
      own.unsafeGetTensorImpl()->set_data(output->data());
    }
    const CrashNote note(what_.c_str(), "run");
    check(method_->execute(), "failed");
    if (output) return output;
    if (keep) return copied(own, gives_);
    return buffers_->make<EtFeature>(own);
  }

 private:
  void check(et::Error error, const char* did) const {
    if (error != et::Error::Ok) throw DeviceError(what_ + " " + did + " on executorch: " + in_words(error));
  }

  void load_method(const et::MethodMeta& meta) {
    try {
      planned_.emplace(meta);
    } catch (const std::bad_alloc&) {
      check(et::Error::MemoryAllocationFailed, "does not load");
    }
    et::MemoryAllocator* allocator = &allocator_;
    if (scratch_) allocator = &*scratch_;
    memory_.emplace(allocator, planned_->allocator(), &temporary_);
    auto method =
        scratch_
            ? scratch_->with(
                  allocator_,
                  [&] { return program_->load_method("forward", &*memory_, nullptr, nullptr, scratch_->options()); })
            : program_->load_method("forward", &*memory_);
    check(method.error(), "does not load");
    method_.emplace(std::move(*method));
  }

  FormPtr form_of(const et::TensorInfo& info) const {
    return std::make_shared<Form>(std::vector<executorch::aten::SizesType>(info.sizes().begin(), info.sizes().end()),
                                  info.scalar_type(), layout_);
  }

  EtFeaturePtr copied(const EtTensor& tensor, const FormPtr& form) const {
    EtFeaturePtr made = new_feature(form, buffers_);
    copy(tensor, made->data(), layout_);
    return made;
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
  MappedFile file_;  // the loader, and so the program, points into it
  Layout layout_;
  std::shared_ptr<Buffers> buffers_;
  std::shared_ptr<EtScratch> scratch_;
  executorch::extension::BufferDataLoader loader_;
  MallocMemoryAllocator allocator_;
  MallocMemoryAllocator temporary_;
  std::optional<PlannedMemory> planned_;
  std::optional<et::MemoryManager> memory_;
  std::optional<et::Program> program_;
  std::optional<et::Method> method_;
  std::vector<FormPtr> takes_;
  FormPtr gives_;
  // The program is nothing but one call of XNNPACK, which writes to where the tensor of the output points at that
  // moment. ExecuTorch's `set_output_data_ptr` refuses an output that has planned memory, as all of a pack have,
  // because in other programs that memory may be shared with what is computed on the way.
  bool gives_anywhere_ = false;
  std::vector<EtFeaturePtr> converted_;  // inputs of this run that came in the other layout
};

class EtEngine final : public Engine {
 public:
  explicit EtEngine(int threads) {
    executorch::runtime::runtime_init();
    if (threads == 0) return;
    auto* pool = executorch::extension::threadpool::get_threadpool();
    // The process has one pool, and its threads stay on the cores on which the thread that made them was running. So
    // the pool is always made again; ExecuTorch does that only when the count changes, so it is set to another count
    // first. No program is loaded at this moment, because no engine exists yet.
    const auto wanted = static_cast<std::uint32_t>(threads);
    if (!pool->_unsafe_reset_threadpool(wanted + 1) || !pool->_unsafe_reset_threadpool(wanted) ||
        pool->get_thread_count() != wanted) {
      throw DeviceError("executorch does not run on " + std::to_string(threads) + " threads here; ask for fewer");
    }
  }

  std::string name() const override { return "executorch"; }
  std::string version() const override { return executorch_version(); }
  std::string backend() const override { return "executorch"; }
  int threads() const override {
    return static_cast<int>(executorch::extension::threadpool::get_threadpool()->get_thread_count());
  }

  ScratchPtr scratch() override { return std::make_shared<EtScratch>(); }

  std::unique_ptr<Program> load(const std::string& what, MappedFile file, Layout layout, const Signature& signature,
                                const ScratchPtr& scratch) override {
    return std::make_unique<EtProgram>(what, std::move(file), layout, signature, scratch ? chain_buffers_ : buffers_,
                                       std::static_pointer_cast<EtScratch>(scratch));
  }

  FeaturePtr empty(const TensorType& type, Layout layout, bool of_chain) override {
    return new_feature(form_of(type, layout), of_chain ? chain_buffers_ : buffers_);
  }

  void write(Feature& feature, const std::byte* data, Layout given) override {
    auto& to = static_cast<EtFeature&>(feature);
    const bool last = !in_layout(to.tensor().dim_order(), Layout::kContiguous);
    const Layout own = last ? Layout::kChannelsLast : Layout::kContiguous;
    copy(data, to.tensor().dim() != 4 || given == own, to.data(), to.tensor(), own);
  }

  void read(const Feature& feature, std::byte* to, Layout wanted) override {
    const EtTensor& from = tensor_of(feature);
    copy(from, to, from.dim() == 4 ? wanted : Layout::kContiguous);
  }

  TensorType type_of(const Feature& feature) override {
    const EtTensor& given = tensor_of(feature);
    return {Shape(given.sizes().begin(), given.sizes().end()), from_executorch("a feature", given.scalar_type())};
  }

 private:
  // Made once: nothing is allocated for the input of an inference.
  FormPtr form_of(const TensorType& type, Layout layout) {
    const std::lock_guard lock(forms_mutex_);
    for (const auto& [of, in, form] : forms_) {
      if (of == type && in == layout) return form;
    }
    const auto form =
        std::make_shared<Form>(std::vector<executorch::aten::SizesType>(type.shape.begin(), type.shape.end()),
                               to_executorch(type.dtype), layout);
    forms_.emplace_back(type, layout, form);
    return form;
  }

  std::mutex forms_mutex_;
  std::vector<std::tuple<TensorType, Layout, FormPtr>> forms_;  // of all inputs; of a graph, as many as it has cuts
  std::shared_ptr<Buffers> buffers_ = std::make_shared<Buffers>();
  // Of subnets that are served: nothing of theirs is kept.
  std::shared_ptr<Buffers> chain_buffers_ = std::make_shared<Buffers>(Buffers::Fit::kAtLeast);
};

}  // namespace

std::unique_ptr<Engine> make_executorch_engine(int threads) { return std::make_unique<EtEngine>(threads); }

std::string executorch_version() { return EXECUTORCH_VERSION; }

}  // namespace adaptivenet
