// What the runner needs of a library that runs artifacts.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/files.h"
#include "core/tensor.h"

namespace adaptivenet {

// A tensor of an engine, in the layout that it was made with. Only that engine makes and reads it.
class Feature {
 public:
  virtual ~Feature() = default;
};
using FeaturePtr = std::shared_ptr<Feature>;

// A block or a metric, loaded.
class Program {
 public:
  virtual ~Program() = default;

  // Runs the program and returns its one output. With keep = false the output may lie in the program's own memory: it
  // must be read before the program runs again or is destroyed. Throws DeviceError.
  virtual FeaturePtr run(std::span<const FeaturePtr> operands, bool keep) = 0;
};

struct Signature {
  std::vector<TensorType> takes;
  std::vector<TensorType> gives;

  bool operator==(const Signature&) const = default;
};

// Throws PackError unless a program has the inputs and outputs that its pack says. The pack and the bytes of the
// program were checked before; this check finds a program that has the name of another one.
void check_signature(const std::string& what, const Signature& pack, const Signature& program);

// A block to make one program of with others: what it is in errors, its artifact, the cuts that it reads and gives.
struct Part {
  std::string what;
  MappedFile file;
  std::vector<int> takes;
  int gives = 0;
};

// Memory for what programs compute on the way, shared by those that were loaded with it: of these, one at a time may be
// loaded or run. The others wait, so what is loaded beside a subnet that runs is loaded with memory of its own.
class Scratch {
 public:
  virtual ~Scratch() = default;
};
using ScratchPtr = std::shared_ptr<Scratch>;

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::string name() const = 0;  // as addresses and requests name it: "executorch", "onnxruntime"
  virtual std::string version() const = 0;
  virtual int threads() const = 0;          // that programs run on; 0: the library takes as many as it wants
  virtual std::string backend() const = 0;  // the pack's name for its artifacts: "executorch", "onnx"

  // New scratch memory; null where programs of this engine share none.
  virtual ScratchPtr scratch() { return nullptr; }

  // The program in `file`, whose 4-D inputs it wants in `layout`; `what` names it in errors. With null for `scratch` it
  // uses that of the process. Throws DeviceError when it does not load, PackError when it does not take and give what
  // `signature` says.
  virtual std::unique_ptr<Program> load(const std::string& what, MappedFile file, Layout layout,
                                        const Signature& signature, const ScratchPtr& scratch = nullptr) = 0;

  // Whether this engine makes one program of several.
  virtual bool assembles() const { return false; }

  // The program of consecutive parts. It takes what no part gives, in the order in which it is first read, and gives
  // what the last part gives; `cuts` are the types of all cuts of the graph. Throws what `load` throws, and PackError
  // for parts that do not fit together. Only of an engine that `assembles`.
  virtual std::unique_ptr<Program> assemble(const std::vector<Part>& parts, const std::vector<TensorType>& cuts);

  // Whether loading starts the threads that a program runs on. They inherit the priority and the cores of the thread
  // that loads.
  virtual bool loading_starts_threads() const { return false; }

  // A tensor whose values are still to be written; in `layout` when it has four dimensions. `of_chain`: the input of a
  // subnet that is served, let go when it was read, so that it may lie in the memory of the subnet's other features.
  virtual FeaturePtr empty(const TensorType& type, Layout layout, bool of_chain) = 0;

  // Writes all values of a tensor that `empty` made. They come without gaps, of four dimensions in the order `given`.
  virtual void write(Feature& feature, const std::byte* data, Layout given) = 0;

  // Copies the values to `to`, without gaps, of four dimensions in the order `wanted`.
  virtual void read(const Feature& feature, std::byte* to, Layout wanted) = 0;

  virtual TensorType type_of(const Feature& feature) = 0;

  FeaturePtr feature(const TensorView& view, Layout layout);  // a new tensor with the values of `view`
  Tensor tensor(const Feature& feature);                      // a contiguous copy
};

// Makes an engine whose programs run on `threads` threads; with 0 on as many as the library takes by itself, and what
// the process has of threads is left as it is. Throws DeviceError for a name that this build does not have,
// naming those that it has, and when the engine cannot have its threads. One engine of a kind lives at a time.
std::unique_ptr<Engine> make_engine(const std::string& name, int threads);

// The names and versions of the engines in this build.
std::vector<std::pair<std::string, std::string>> engines();

}  // namespace adaptivenet
