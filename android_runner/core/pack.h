// The block pack: a manifest, and blobs in a folder, which several packs share on a phone, or all in one archive.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/archive.h"
#include "core/files.h"
#include "core/graph.h"
#include "core/inputs.h"
#include "core/tensor.h"

namespace adaptivenet {

struct Artifact {
  std::string file;  // "blobs/<sha256>.pte" or ".onnx"
  std::int64_t bytes = 0;
  Layout layout = Layout::kContiguous;

  std::string sha256() const;
};

enum class Operand { kOutput, kOracle, kLabel };

struct Metric {
  std::vector<Operand> operands;
  std::vector<std::string> sums;
  std::map<std::string, Artifact> artifacts;  // by backend: "executorch", "onnx"
};

class Pack {
 public:
  // What the manifest in `text` describes; checks 3 to 11 of docs/pack.md. Throws PackError at the first that fails.
  static Pack parse(std::string_view text);

  // The same for the manifest in `file` (check 2), whose blobs lie in the folder `blobs` under the names that the
  // manifest gives them without "blobs/".
  static Pack open(const std::filesystem::path& file, std::filesystem::path blobs);

  // The same for a pack in one archive.
  static Pack open(ArchivePtr archive);

  const std::string& name() const { return name_; }
  const std::string& digest() const { return digest_; }
  const std::string& bundled_from() const { return bundled_from_; }  // the digest of another pack; empty for no bundle
  const BlockGraph& graph() const { return graph_; }
  // The network's inputs where cut 0 holds several, or one that is no float32 tensor, in one row; empty: it is the
  // input.
  const std::vector<Input>& inputs() const { return inputs_; }
  const std::map<std::string, Metric>& metrics() const { return metrics_; }
  TensorType label() const;  // int64, of the output's shape without its dimension 1

  // Throw PackError for a backend that the pack is not exported for; GraphError, PackError for unknown names.
  const Artifact& block_artifact(const std::string& block, const std::string& backend) const;
  const Artifact& metric_artifact(const std::string& metric, const std::string& backend) const;

  // The bytes of a program: checks 12 to 14. Throws PackError.
  MappedFile read(const Artifact& artifact) const;

 private:
  std::string name_;
  std::string digest_;
  std::string bundled_from_;
  BlockGraph graph_;
  std::vector<Input> inputs_;
  std::map<std::string, std::map<std::string, Artifact>> blocks_;
  std::map<std::string, Metric> metrics_;
  std::filesystem::path blobs_;
  ArchivePtr archive_;  // that the blobs are in; null for a folder

  MappedFile open_blob(const Artifact& artifact) const;
};

}  // namespace adaptivenet
