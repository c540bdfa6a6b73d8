#include "tiny_pack.h"

#include <span>

#include "core/sha256.h"

namespace adaptivenet {
namespace {

Json artifacts(char digit) {
  return {{"onnx",
           {{"file", "blobs/" + std::string(64, digit) + ".onnx"},
            {"bytes", 100},
            {"layout", "contiguous"},
            {"max_abs_error", 1e-7},
            {"tolerance", 1e-4}}}};
}

Json block(const std::string& name, int start, int end, const std::string& kind) {
  return {{"name", name}, {"start", start}, {"end", end}, {"kind", kind},
          {"source", ""}, {"params", 1},    {"macs", 2},  {"artifacts", artifacts('a')}};
}

}  // namespace

Json tiny_manifest() {
  Json cuts = Json::array();
  for (const auto& shape : {Json{1, 3, 2, 2}, Json{1, 50}, Json{1, 4}, Json{1, 2, 2}, Json{1, 5}}) {
    cuts.push_back({{"index", cuts.size()}, {"shape", shape}, {"dtype", "float32"}});
  }
  return {
      {"format", "adaptivenet-pack"},
      {"version", 2},
      {"name", "tiny"},
      {"cuts", cuts},
      {"taps", {1}},
      {"blocks",
       {block("o0", 0, 1, "original"), block("o1", 1, 2, "original"), block("o2", 2, 3, "original"),
        block("o3", 3, 4, "original"), block("p0", 0, 1, "pruned"), block("m1", 1, 3, "merged"),
        block("m3", 2, 4, "merged")}},
      {"metrics",
       {{"top1", {{"operands", {"output", "label"}}, {"sums", {"correct", "count"}}, {"artifacts", artifacts('b')}}},
        {"agreement",
         {{"operands", {"output", "oracle"}}, {"sums", {"correct", "count"}}, {"artifacts", artifacts('c')}}}}},
      {"preprocessing",
       {{"height", 2},
        {"width", 2},
        {"resize_short", 3},
        {"crop", "center"},
        {"interpolation", "bilinear"},
        {"mean", {0.5, 0, -1.5}},
        {"std", {0.25, 0.5, 1}},
        {"scale", 1.0 / 255}}},
      {"classes", {"daisy", "poppy", "rose", "tulip", "violet"}},
      {"provenance", {{"license", "Apache-2.0"}}}};
}

std::string with_digest(Json manifest) {
  manifest.erase("digest");
  const std::string rest = canonical_json(manifest);
  manifest["digest"] = sha256(std::as_bytes(std::span(rest)));
  return canonical_json(manifest);
}

Json tiny_plan() {
  return parse_json(R"({
    "subnets": [["o0", "m1", "o3"], ["o0", "o1", "m3"]],
    "metrics": ["top1"],
    "slots": 5,
    "peak_bytes": 248,
    "block_runs": 5,
    "instructions": [
      ["run", "o0", [0], 2], ["free", 0],
      ["run", "m1", [2], 3], ["run", "o3", [3, 2], 4], ["free", 3], ["score", 0, "top1", [4, 1]], ["free", 4],
      ["run", "o1", [2], 3], ["run", "m3", [3, 2], 4], ["free", 3], ["free", 2], ["score", 1, "top1", [4, 1]],
      ["free", 4]
    ]
  })");
}

}  // namespace adaptivenet
