// The native methods of this module's org.pytorch.executorch.Module, over ExecuTorch's Python wheel: what
// org.pytorch:executorch-android has in libexecutorch.so. Outputs lie in the program's memory until it runs again.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>
#include <jni.h>

#include <memory>
#include <string>
#include <vector>

#include "engines/executorch_threads.h"

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::extension::Module;
using executorch::runtime::EValue;

// The engine's log would lie between the results of the tests.
void be_quiet(et_timestamp_t, et_pal_log_level_t, const char*, const char*, std::size_t, const char*, std::size_t) {}

void fail(JNIEnv* jni, const std::string& what) {
  jni->ThrowNew(jni->FindClass("java/lang/RuntimeException"), what.c_str());
}

std::string text_of(JNIEnv* jni, jstring text) {
  const char* chars = jni->GetStringUTFChars(text, nullptr);
  std::string copy(chars);
  jni->ReleaseStringUTFChars(text, chars);
  return copy;
}

Module& module_of(jlong handle) { return *reinterpret_cast<Module*>(handle); }

std::vector<executorch::aten::SizesType> sizes_of(JNIEnv* jni, jlongArray shape) {
  std::vector<jlong> sides(static_cast<std::size_t>(jni->GetArrayLength(shape)));
  jni->GetLongArrayRegion(shape, 0, static_cast<jsize>(sides.size()), sides.data());
  return {sides.begin(), sides.end()};
}

void set_output(JNIEnv* jni, jobjectArray outputs, jsize at, const Tensor& tensor) {
  const std::vector<jlong> sides(tensor.sizes().begin(), tensor.sizes().end());
  const auto rank = static_cast<jsize>(sides.size());
  jlongArray shape = jni->NewLongArray(rank);
  jni->SetLongArrayRegion(shape, 0, rank, sides.data());
  const jint number = static_cast<jint>(tensor.scalar_type());
  jintArray type = jni->NewIntArray(1);
  jni->SetIntArrayRegion(type, 0, 1, &number);
  jni->SetObjectArrayElement(outputs, 3 * at,
                             jni->NewDirectByteBuffer(tensor.mutable_data_ptr(), static_cast<jlong>(tensor.nbytes())));
  jni->SetObjectArrayElement(outputs, 3 * at + 1, shape);
  jni->SetObjectArrayElement(outputs, 3 * at + 2, type);
}

}  // namespace

extern "C" {

JNIEXPORT jlong JNICALL Java_org_pytorch_executorch_Module_open(JNIEnv* jni, jclass, jstring path, jint mode,
                                                                jint threads) {
  static const bool is_quiet =
      executorch::runtime::register_pal(executorch::runtime::PalImpl::create(be_quiet, __FILE__));
  (void)is_quiet;
  executorch::runtime::runtime_init();
  const auto load_mode = mode == 0 ? Module::LoadMode::File : Module::LoadMode::Mmap;
  auto module = std::make_unique<Module>(text_of(jni, path), load_mode);
  auto* pool = executorch::extension::threadpool::get_threadpool();
  if (pool != nullptr && threads > 0 && !pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(threads))) {
    fail(jni, "the thread pool cannot be reset");
  }
  return reinterpret_cast<jlong>(module.release());
}

JNIEXPORT jint JNICALL Java_org_pytorch_executorch_Module_loadMethod(JNIEnv* jni, jclass, jlong handle, jstring name) {
  return static_cast<jint>(module_of(handle).load_method(text_of(jni, name)));
}

JNIEXPORT jobjectArray JNICALL Java_org_pytorch_executorch_Module_forward(JNIEnv* jni, jclass, jlong handle,
                                                                          jobjectArray data, jobjectArray shapes,
                                                                          jintArray types) {
  const jsize count = jni->GetArrayLength(data);
  std::vector<jint> numbers(static_cast<std::size_t>(count));
  jni->GetIntArrayRegion(types, 0, count, numbers.data());
  std::vector<executorch::extension::TensorPtr> tensors;
  std::vector<EValue> inputs;
  for (jsize at = 0; at < count; ++at) {
    void* bytes = jni->GetDirectBufferAddress(jni->GetObjectArrayElement(data, at));
    auto sizes = sizes_of(jni, static_cast<jlongArray>(jni->GetObjectArrayElement(shapes, at)));
    tensors.push_back(executorch::extension::from_blob(bytes, std::move(sizes),
                                                       static_cast<ScalarType>(numbers[static_cast<std::size_t>(at)])));
    inputs.emplace_back(tensors.back());
  }
  const auto result = module_of(handle).forward(inputs);
  if (!result.ok()) {
    fail(jni, "Execution failed for method: forward, error " + std::to_string(static_cast<int>(result.error())));
    return nullptr;
  }
  const auto outputs = static_cast<jsize>(result->size());
  jobjectArray given = jni->NewObjectArray(3 * outputs, jni->FindClass("java/lang/Object"), nullptr);
  for (jsize at = 0; at < outputs; ++at) {
    set_output(jni, given, at, result->at(static_cast<std::size_t>(at)).toTensor());
  }
  return given;
}

JNIEXPORT void JNICALL Java_org_pytorch_executorch_Module_close(JNIEnv*, jclass, jlong handle) {
  delete reinterpret_cast<Module*>(handle);
}
}
