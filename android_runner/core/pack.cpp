#include "core/pack.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/manifest.h"
#include "core/quote.h"
#include "core/sha256.h"

namespace adaptivenet {
namespace {

constexpr std::string_view kFolder = "blobs/";

std::string suffix_of(const std::string& backend) { return backend == "executorch" ? ".pte" : ".onnx"; }

TensorType type_from(const Json& tensor) {
  return {tensor.at("shape").get<Shape>(), dtype_from_name(tensor.at("dtype").get<std::string>())};
}

// The index of a cut, as an int for the graph. A number that is too large for an int cannot be the index of a cut.
int index_from(const Json& value) {
  return static_cast<int>(std::min<std::int64_t>(value.get<std::int64_t>(), INT32_MAX));
}

// What an int8 block was quantised from, where that is here, is in float32 and leads from the same cut to the same.
void require_twins(const Json& blocks) {
  std::map<std::string, const Json*> by_name;
  for (const Json& block : blocks) by_name[block.at("name").get<std::string>()] = &block;
  const auto is_float = [](const Json& block) { return block.value("precision", "float32") == "float32"; };
  for (const Json& block : blocks) {
    const auto twin_of = block.find("twin_of");
    if (twin_of == block.end() || twin_of->is_null()) continue;
    const auto found = by_name.find(twin_of->get<std::string>());
    const Json* twin = found == by_name.end() ? nullptr : found->second;
    if (is_float(block) || (twin != nullptr && (!is_float(*twin) || twin->at("start") != block.at("start") ||
                                                twin->at("end") != block.at("end")))) {
      throw PackError("manifest.json: block " + shown(block.at("name")) + " says that it was quantised from " +
                      shown(*twin_of) + ": only an int8 block can be, from a float32 block between the same cuts");
    }
  }
}

BlockGraph graph_from(const Json& manifest) {
  std::vector<TensorType> cuts;
  for (const Json& cut : manifest.at("cuts")) {
    if (cut.at("index").get<std::int64_t>() != static_cast<std::int64_t>(cuts.size())) {
      throw PackError("manifest.json: cuts must be numbered 0, 1, 2, ...: got " + shown(cut.at("index")) + " after " +
                      std::to_string(cuts.size()) + " cuts");
    }
    cuts.push_back(type_from(cut));
  }
  std::vector<Block> blocks;
  for (const Json& block : manifest.at("blocks")) {
    const std::string kind = block.at("kind");
    const bool is_float = block.value("precision", "float32") == "float32";
    blocks.push_back({block.at("name").get<std::string>(), index_from(block.at("start")), index_from(block.at("end")),
                      kind == "original" && is_float, kind == "whole" || kind == "resized" || kind == "also"});
    for (const Json& cut : block.value("reads", Json::array())) blocks.back().reads.push_back(index_from(cut));
  }
  require_twins(manifest.at("blocks"));
  // The manifest may name taps in any order, and twice.
  std::vector<int> taps;
  for (const Json& tap : manifest.at("taps")) taps.push_back(index_from(tap));
  std::sort(taps.begin(), taps.end());
  taps.erase(std::unique(taps.begin(), taps.end()), taps.end());
  try {
    return BlockGraph(std::move(cuts), std::move(blocks), std::move(taps));
  } catch (const GraphError& error) {
    throw PackError(std::string("manifest.json: ") + error.what());
  }
}

// Check 10, first part.
void require_preprocessing(const Json& manifest, const BlockGraph& graph) {
  const Json& preprocessing = manifest.at("preprocessing");
  if (preprocessing.is_null()) return;
  const auto height = preprocessing.at("height").get<std::int64_t>();
  const auto width = preprocessing.at("width").get<std::int64_t>();
  const Json& resize = preprocessing.at("resize_short");
  if (!resize.is_null() && resize.get<std::int64_t>() < std::min(height, width)) {
    throw PackError("preprocessing: resize_short is " + shown(resize) +
                    "; it must be null or at least the crop's short side, " + std::to_string(std::min(height, width)));
  }
  const TensorType made = {{1, 3, height, width}, DType::kFloat32};
  if (graph.cuts().front() != made) {
    throw PackError("manifest.json: preprocessing makes " + to_string(made) + ", but cut 0 is " +
                    to_string(graph.cuts().front()));
  }
}

// Check 10, second part: the tensors that a cut holds in one row, where `what` names some. A cut of two dimensions
// never holds 2^62 numbers or more: such a shape is refused.
void require_row(const Json& manifest, const std::string& what, const TensorType& cut) {
  const auto held = manifest.find(what);
  if (held == manifest.end()) return;
  std::int64_t left = cut.shape.size() == 2 ? elements_of(cut.shape) : -1;
  try {
    for (const Json& each : *held) {
      const std::int64_t count = elements_of(each.at("shape").get<Shape>());
      left = count <= left ? left - count : -1;
    }
  } catch (const std::overflow_error&) {
    left = -1;
  }
  if (left != 0) {
    throw PackError("manifest.json: the " + what + " do not hold as many numbers as their cut, which is " +
                    to_string(cut));
  }
}

std::vector<Input> inputs_from(const Json& manifest, const BlockGraph& graph) {
  const TensorType& first = graph.cuts().front();
  require_row(manifest, "inputs", first);
  if (!manifest.contains("inputs")) return {};
  if (first.dtype != DType::kFloat32)
    throw PackError("manifest.json: a row of inputs is float32, not " + to_string(first));
  std::set<std::string> names;
  std::vector<Input> inputs;
  for (const Json& input : manifest.at("inputs")) {
    inputs.push_back({input.at("name").get<std::string>(), type_from(input)});
    if (!names.insert(inputs.back().name).second) throw PackError("manifest.json: two inputs have one name");
  }
  return inputs;
}

Artifact artifact_from(const Json& document, const std::string& backend) {
  Artifact artifact;
  artifact.file = document.at("file").get<std::string>();
  artifact.bytes = document.at("bytes").get<std::int64_t>();
  artifact.layout = document.at("layout") == "channels_last" ? Layout::kChannelsLast : Layout::kContiguous;
  if (!artifact.file.ends_with(suffix_of(backend))) {
    throw PackError("manifest.json: " + artifact.file + " is given for " + backend + ", whose files end in " +
                    suffix_of(backend));
  }
  const Json& error = document.at("max_abs_error");
  const Json& tolerance = document.at("tolerance");
  if (!error.is_null() && !tolerance.is_null() && error.get<double>() > tolerance.get<double>()) {
    throw PackError(artifact.file + " differs from torch by " + shown(error) + ", more than the tolerance of " +
                    shown(tolerance));
  }
  return artifact;
}

std::map<std::string, Artifact> artifacts_from(const Json& document) {
  std::map<std::string, Artifact> artifacts;
  for (const auto& [backend, artifact] : document.items()) artifacts[backend] = artifact_from(artifact, backend);
  return artifacts;
}

Operand operand_from(const Json& name) {
  if (name == "label") return Operand::kLabel;
  return name == "oracle" ? Operand::kOracle : Operand::kOutput;
}

// What a metric's sums come to is the host's to say; a runner holds only that they can come to something.
void require_score(const std::string& name, const Json& metric) {
  const auto score = metric.find("score");
  if (score == metric.end()) return;
  const std::string what = "manifest.json: metric " + quote(name);
  if (metric.at("sums").size() % 2 != 0) {
    throw PackError(what + " has a score and an odd number of sums: it takes parts and as many wholes");
  }
  if (std::abs(score->at("best").get<double>() - score->at("worst").get<double>()) < 1e-9) {
    throw PackError(what + ": the worst and the best of its score are the same: they must be at least 1e-9 apart");
  }
}

// When one program is exported for a backend, all of them are.
void require_backends(const std::string& what, const std::map<std::string, Artifact>& artifacts,
                      const std::map<std::string, Artifact>& others) {
  const auto same_key = [](const auto& one, const auto& other) { return one.first == other.first; };
  if (!std::equal(artifacts.begin(), artifacts.end(), others.begin(), others.end(), same_key)) {
    throw PackError("manifest.json: " + quote(what) +
                    " is not exported for the backends that others are exported for; export it again");
  }
}

const Artifact& chosen(const std::string& pack, const std::map<std::string, Artifact>& artifacts,
                       const std::string& backend) {
  const auto found = artifacts.find(backend);
  if (found != artifacts.end()) return found->second;
  std::string known;
  for (const auto& [name, artifact] : artifacts) known += (known.empty() ? "" : ", ") + name;
  throw PackError("pack " + quote(pack) + " is not exported for " + quote(backend) + ", only for " + known +
                  "; export it again with that backend");
}

}  // namespace

std::string Artifact::sha256() const { return file.substr(kFolder.size(), 64); }

Pack Pack::parse(std::string_view text) {
  const Json manifest = parse_manifest(text);
  Pack pack;
  pack.name_ = manifest.at("name").get<std::string>();
  pack.digest_ = manifest.at("digest").get<std::string>();
  const Json& provenance = manifest.at("provenance");
  if (const auto from = provenance.find("bundled from"); from != provenance.end()) {
    pack.bundled_from_ = from->get<std::string>();
  }
  pack.graph_ = graph_from(manifest);
  require_preprocessing(manifest, pack.graph_);
  pack.inputs_ = inputs_from(manifest, pack.graph_);
  require_row(manifest, "outputs", pack.graph_.cuts().back());
  for (const Json& block : manifest.at("blocks")) {
    pack.blocks_[block.at("name").get<std::string>()] = artifacts_from(block.at("artifacts"));
  }
  for (const auto& [name, document] : manifest.at("metrics").items()) {
    require_score(name, document);
    Metric& metric = pack.metrics_[name];
    for (const Json& operand : document.at("operands")) metric.operands.push_back(operand_from(operand));
    metric.sums = document.at("sums").get<std::vector<std::string>>();
    metric.artifacts = artifacts_from(document.at("artifacts"));
  }
  const auto& first = pack.blocks_.begin()->second;
  for (const auto& [name, artifacts] : pack.blocks_) require_backends(name, artifacts, first);
  for (const auto& [name, metric] : pack.metrics_) require_backends(name, metric.artifacts, first);
  return pack;
}

Pack Pack::open(const std::filesystem::path& file, std::filesystem::path blobs) {
  std::string text;
  try {
    text = read_text(file, kManifestLimit);
  } catch (const std::runtime_error& error) {
    throw PackError(std::string("manifest ") + error.what() + "; copy the pack again");
  }
  Pack pack = parse(text);
  // With a slash at its end, a link to a folder would pass for the folder.
  pack.blobs_ = blobs.has_filename() ? std::move(blobs) : blobs.parent_path();
  return pack;
}

Pack Pack::open(ArchivePtr archive) {
  Pack pack = parse(archive->read_text("manifest.json", kManifestLimit));
  pack.archive_ = std::move(archive);
  return pack;
}

TensorType Pack::label() const {
  Shape shape = graph_.cuts().back().shape;
  if (shape.size() > 1) shape.erase(shape.begin() + 1);
  return {shape, DType::kInt64};
}

const Artifact& Pack::block_artifact(const std::string& block, const std::string& backend) const {
  return chosen(name_, blocks_.at(graph_.block(block).name), backend);
}

const Artifact& Pack::metric_artifact(const std::string& metric, const std::string& backend) const {
  const auto found = metrics_.find(metric);
  if (found == metrics_.end()) throw PackError("pack " + quote(name_) + " has no metric " + quote(metric));
  return chosen(name_, found->second.artifacts, backend);
}

MappedFile Pack::open_blob(const Artifact& artifact) const {
  if (archive_) return archive_->map(artifact.file);
  std::error_code ignored;  // a folder that cannot be looked at counts as missing
  if (!std::filesystem::is_directory(std::filesystem::symlink_status(blobs_, ignored))) {
    throw PackError(quote(blobs_.string()) + " is not a folder (or a link to one); copy the pack again");
  }
  try {
    return MappedFile(blobs_ / artifact.file.substr(kFolder.size()));
  } catch (const std::runtime_error& error) {
    throw PackError(std::string("blob ") + error.what() + "; copy the pack again");
  }
}

MappedFile Pack::read(const Artifact& artifact) const {
  MappedFile file = open_blob(artifact);
  if (static_cast<std::int64_t>(file.bytes().size()) != artifact.bytes) {
    throw PackError(artifact.file + " has " + std::to_string(file.bytes().size()) + " bytes, the manifest says " +
                    std::to_string(artifact.bytes) + "; export or copy the pack again");
  }
  const std::string digest = adaptivenet::sha256(file.bytes());
  if (digest != artifact.sha256()) {
    throw PackError(artifact.file + " is damaged: its content has SHA-256 " + digest +
                    "; export or copy the pack again");
  }
  return file;
}

}  // namespace adaptivenet
