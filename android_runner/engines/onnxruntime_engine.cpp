#include "engines/onnxruntime_engine.h"

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "core/crash_note.h"
#include "core/error.h"
#include "core/onnx_assembly.h"
#include "engines/buffers.h"

namespace adaptivenet {
namespace {

constexpr std::pair<DType, ONNXTensorElementDataType> kTypes[] = {
    {DType::kFloat32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    {DType::kFloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {DType::kBFloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    {DType::kInt64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {DType::kInt32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    {DType::kInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
    {DType::kUInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    {DType::kBool, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
};

ONNXTensorElementDataType to_onnxruntime(DType dtype) {
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& pair) { return pair.first == dtype; })->second;
}

DType from_onnxruntime(const std::string& what, ONNXTensorElementDataType type) {
  const auto* found =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& pair) { return pair.second == type; });
  if (found == std::end(kTypes)) {
    throw PackError(what + " has a tensor of ONNX's type " + std::to_string(type) +
                    ", which no pack may have; export the pack again");
  }
  return found->first;
}

struct OrtFeature final : Feature {
  explicit OrtFeature(Ort::Value made) : value(std::move(made)) {}

  // A tensor in a buffer of its own, whose bytes are still to be written.
  OrtFeature(const TensorType& of, Buffer bytes)
      : value(Ort::Value::CreateTensor(Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault), bytes.data(),
                                       static_cast<std::size_t>(bytes_of(of)), of.shape.data(), of.shape.size(),
                                       to_onnxruntime(of.dtype))),
        type(of),
        buffer(std::move(bytes)) {}

  Ort::Value value;
  TensorType type;  // of one that is written to
  std::optional<Buffer> buffer;
};

OrtFeature& feature_of(const FeaturePtr& feature) { return static_cast<OrtFeature&>(*feature); }

class OrtProgram final : public Program {
 public:
  OrtProgram(std::string what, Ort::Session session, const Signature& signature, std::shared_ptr<Buffers> buffers)
      : what_(std::move(what)), session_(std::move(session)), buffers_(std::move(buffers)) {
    Ort::AllocatorWithDefaultOptions allocator;
    Signature own;
    for (std::size_t index = 0; index < session_.GetInputCount(); ++index) {
      input_names_.emplace_back(session_.GetInputNameAllocated(index, allocator).get());
      own.takes.push_back(type_of(session_.GetInputTypeInfo(index)));
    }
    for (std::size_t index = 0; index < session_.GetOutputCount(); ++index) {
      own.gives.push_back(type_of(session_.GetOutputTypeInfo(index)));
    }
    check_signature(what_, signature, own);
    output_name_ = session_.GetOutputNameAllocated(0, allocator).get();
    for (const std::string& name : input_names_) names_.push_back(name.c_str());
  }

  FeaturePtr run(std::span<const FeaturePtr> operands, bool keep) override {
    inputs_.clear();
    for (const FeaturePtr& operand : operands) inputs_.push_back(feature_of(operand).value);
    const char* name = output_name_.c_str();
    const CrashNote note(what_.c_str(), "run");
    OrtValue* output = nullptr;  // every run makes a new one, so it may always be kept
    const Ort::Status status(
        Ort::GetApi().Run(session_, nullptr, names_.data(), inputs_.data(), inputs_.size(), &name, 1, &output));
    if (!status.IsOK()) throw DeviceError(what_ + " failed on onnxruntime: " + status.GetErrorMessage());
    return buffers_->make<OrtFeature>(Ort::Value(output));
  }

 private:
  TensorType type_of(const Ort::TypeInfo& info) const {
    const auto tensor = info.GetONNXType() == ONNX_TYPE_TENSOR ? info.GetTensorTypeAndShapeInfo()
                                                               : Ort::ConstTensorTypeAndShapeInfo{nullptr};
    if (tensor == nullptr)
      throw PackError(what_ + " takes or gives something that is no tensor; export the pack again");
    return {tensor.GetShape(), from_onnxruntime(what_, tensor.GetElementType())};
  }

  std::string what_;
  Ort::Session session_;
  std::vector<std::string> input_names_;
  std::vector<const char*> names_;  // the same, as the library wants them
  std::string output_name_;
  std::vector<const OrtValue*> inputs_;  // of the run that is on
  std::shared_ptr<Buffers> buffers_;
};

// Tensors are always contiguous: ONNX knows no other order.
class OrtEngine final : public Engine {
 public:
  explicit OrtEngine(int threads) : environment_(ORT_LOGGING_LEVEL_FATAL, "adaptivenet"), threads_(threads) {
    // Every block is a session with its own threads. If they kept spinning after their block, they would take the cores
    // from the next block. An assembled network has no next block.
    for (auto [options, spinning] : {std::pair(&of_block_, "0"), std::pair(&of_network_, "1")}) {
      options->SetIntraOpNumThreads(threads);
      options->SetInterOpNumThreads(1);
      options->AddConfigEntry("session.intra_op.allow_spinning", spinning);
    }
  }

  std::string name() const override { return "onnxruntime"; }
  std::string version() const override { return onnxruntime_version(); }
  std::string backend() const override { return "onnx"; }
  int threads() const override { return threads_; }

  std::unique_ptr<Program> load(const std::string& what, MappedFile file, Layout layout, const Signature& signature,
                                const ScratchPtr& scratch) override {
    return load(what, file.bytes(), of_block_, signature);
  }

  bool loading_starts_threads() const override { return threads_ != 1; }

  bool assembles() const override { return true; }

  std::unique_ptr<Program> assemble(const std::vector<Part>& parts, const std::vector<TensorType>& cuts) override {
    std::vector<OnnxPart> programs;
    std::set<int> made;
    Signature signature{{}, {cuts.at(parts.back().gives)}};
    for (const Part& part : parts) {
      programs.push_back({part.what, part.file.bytes(), part.takes, part.gives});
      for (const int cut : part.takes) {
        if (made.insert(cut).second) signature.takes.push_back(cuts.at(cut));
      }
      made.insert(part.gives);
    }
    const std::string& first = parts.front().what;
    const std::string what = parts.size() == 1 ? first : "the network from " + first + " to " + parts.back().what;
    const std::string model = assemble_onnx(programs);
    return load(what, std::as_bytes(std::span(model)), of_network_, signature);
  }

  FeaturePtr empty(const TensorType& type, Layout layout, bool of_chain) override {
    return buffers_->make<OrtFeature>(type, buffers_->take(static_cast<std::size_t>(bytes_of(type))));
  }

  void write(Feature& feature, const std::byte* data, Layout given) override {
    auto& to_write = static_cast<OrtFeature&>(feature);
    const TensorType& type = to_write.type;
    auto* to = static_cast<std::byte*>(to_write.value.GetTensorMutableRawData());
    copy(type, data, given, to, Layout::kContiguous);
  }

  void read(const Feature& feature, std::byte* to, Layout wanted) override {
    const auto* from = static_cast<const std::byte*>(static_cast<const OrtFeature&>(feature).value.GetTensorRawData());
    copy(type_of(feature), from, Layout::kContiguous, to, wanted);
  }

  TensorType type_of(const Feature& feature) override {
    const auto info = static_cast<const OrtFeature&>(feature).value.GetTensorTypeAndShapeInfo();
    return {info.GetShape(), from_onnxruntime("a feature", info.GetElementType())};
  }

 private:
  static void copy(const TensorType& type, const std::byte* from, Layout given, std::byte* to, Layout wanted) {
    if (type.shape.size() == 4) {
      copy_in_layout(type.shape, size_of(type.dtype), from, given, to, wanted);
    } else {
      std::memcpy(to, from, static_cast<std::size_t>(bytes_of(type)));
    }
  }

  std::unique_ptr<Program> load(const std::string& what, std::span<const std::byte> bytes,
                                const Ort::SessionOptions& options, const Signature& signature) {
    try {
      const CrashNote note(what.c_str(), "loaded");
      return std::make_unique<OrtProgram>(what, Ort::Session(environment_, bytes.data(), bytes.size(), options),
                                          signature, buffers_);
    } catch (const Ort::Exception& error) {
      throw DeviceError(what + " does not load on onnxruntime " + version() + ": " + error.what());
    }
  }

  Ort::Env environment_;
  Ort::SessionOptions of_block_, of_network_;
  int threads_;
  std::shared_ptr<Buffers> buffers_ = std::make_shared<Buffers>();
};

}  // namespace

std::unique_ptr<Engine> make_onnxruntime_engine(int threads) { return std::make_unique<OrtEngine>(threads); }

std::string onnxruntime_version() { return OrtGetApiBase()->GetVersionString(); }

}  // namespace adaptivenet
