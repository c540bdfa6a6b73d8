#include "core/pack.h"

#include <functional>

#include "core/error.h"
#include "core/manifest.h"
#include "refusal.h"
#include "tiny_pack.h"

namespace adaptivenet {
namespace {

using Edit = std::function<void(Json&)>;

Json::json_pointer at(const std::string& place) { return Json::json_pointer(place); }

// Puts `value` at a place, as an attacker would: the digest is right afterwards.
Edit set(const std::string& place, const Json& value) {
  return [=](Json& manifest) { manifest[at(place)] = value; };
}

std::string refused(const Edit& edit) {
  Json manifest = tiny_manifest();
  edit(manifest);
  return refusal<PackError>([&] { Pack::parse(with_digest(manifest)); });
}

void accepted(const Edit& edit) {
  Json manifest = tiny_manifest();
  edit(manifest);
  EXPECT_NO_THROW(Pack::parse(with_digest(manifest))) << manifest;
}

const std::string kArtifact = "/blocks/0/artifacts/onnx";

TEST(Pack, SaysWhatItsManifestSays) {
  const Pack pack = Pack::parse(with_digest(tiny_manifest()));
  EXPECT_EQ(pack.name(), "tiny");
  EXPECT_EQ(pack.digest().size(), 64u);
  EXPECT_EQ(pack.graph().end(), 4);
  EXPECT_EQ(pack.graph().cuts()[0], (TensorType{{1, 3, 2, 2}, DType::kFloat32}));
  EXPECT_EQ(pack.graph().taps(), (std::vector<int>{1}));
  EXPECT_EQ(pack.graph().oracle(), (Subnet{"o0", "o1", "o2", "o3"}));
  EXPECT_EQ(pack.metrics().at("agreement").operands, (std::vector<Operand>{Operand::kOutput, Operand::kOracle}));
  EXPECT_EQ(pack.metrics().at("top1").operands, (std::vector<Operand>{Operand::kOutput, Operand::kLabel}));
  EXPECT_EQ(pack.metrics().at("top1").sums, (std::vector<std::string>{"correct", "count"}));
  EXPECT_EQ(pack.label(), (TensorType{{1}, DType::kInt64}));
  const Artifact& artifact = pack.block_artifact("m1", "onnx");
  EXPECT_EQ(artifact.sha256(), std::string(64, 'a'));
  EXPECT_EQ(artifact.bytes, 100);
  EXPECT_EQ(artifact.layout, Layout::kContiguous);
  EXPECT_EQ(pack.metric_artifact("top1", "onnx").sha256(), std::string(64, 'b'));
}

TEST(Pack, NamesWhatItDoesNotHave) {
  const Pack pack = Pack::parse(with_digest(tiny_manifest()));
  EXPECT_TRUE(says(refusal<PackError>([&] { pack.block_artifact("o0", "executorch"); }),
                   "not exported for 'executorch', only for onnx"));
  EXPECT_TRUE(says(refusal<GraphError>([&] { pack.block_artifact("o9", "onnx"); }), "no block 'o9'"));
  EXPECT_TRUE(says(refusal<PackError>([&] { pack.metric_artifact("bleu", "onnx"); }), "no metric 'bleu'"));
  EXPECT_TRUE(says(refusal<PackError>([&] { pack.metric_artifact("top1", "tvm"); }), "not exported for 'tvm'"));
}

TEST(Pack, LabelsHaveTheShapeOfTheOutputWithoutItsDimension1) {
  Json manifest = tiny_manifest();
  manifest[at("/cuts/4/shape")] = {1, 21, 8, 9};
  EXPECT_EQ(Pack::parse(with_digest(manifest)).label().shape, (Shape{1, 8, 9}));
  manifest[at("/cuts/4/shape")] = {7};
  EXPECT_EQ(Pack::parse(with_digest(manifest)).label().shape, (Shape{7}));
}

TEST(Pack, FindsEditsByTheDigest) {
  const std::string good = with_digest(tiny_manifest());
  for (const auto& [before, after] : {std::pair{"daisy", "daisx"}, {"\"macs\":2", "\"macs\":3"}, {"1e-07", "2e-07"}}) {
    std::string text = good;
    text.replace(text.find(before), std::string(before).size(), after);
    EXPECT_TRUE(says(refusal<PackError>([&] { Pack::parse(text); }), "edited or damaged"));
  }
  EXPECT_NO_THROW(Pack::parse(parse_json(good).dump(4)));  // the same in another layout
  for (const Json& digest : {Json(), Json(1), Json(""), Json("A"), Json::array()}) {
    Json manifest = tiny_manifest();
    manifest["digest"] = digest;
    EXPECT_TRUE(says(refusal<PackError>([&] { Pack::parse(manifest.dump()); }), "edited or damaged"));
  }
  EXPECT_TRUE(says(refusal<PackError>([&] { Pack::parse(tiny_manifest().dump()); }), "edited or damaged"));
}

TEST(Pack, ChecksInTheOrderOfThePage) {
  const auto said = [](const std::string& text) { return refusal<PackError>([&] { Pack::parse(text); }); };
  EXPECT_TRUE(says(said(std::string(kManifestLimit + 1, ' ')), "more than 16777216 bytes"));
  EXPECT_TRUE(says(said(std::string(kManifestLimit, ' ')), "cannot be read as JSON"));
  EXPECT_TRUE(says(said(""), "cannot be read as JSON"));
  EXPECT_TRUE(says(said(R"({"format": "adaptivenet-pack", "version": 2, "version": 2})"), "'version' twice"));
  EXPECT_TRUE(says(said("[]"), "not a block pack's manifest"));
  EXPECT_TRUE(says(said("{}"), "not a block pack's manifest"));
  EXPECT_TRUE(says(said(R"({"format": "cheese", "version": 9})"), "not a block pack's manifest"));
  for (const std::string version : {"0", "1", "2.0", "true", "\"2\"", "null", "[2]"}) {
    EXPECT_TRUE(says(said("{\"format\": \"adaptivenet-pack\", \"version\": " + version + "}"),
                     "but this program reads version 2"));
  }
  EXPECT_TRUE(says(said(R"({"format": "adaptivenet-pack"})"), "is of format version null"));
  EXPECT_TRUE(says(said(R"({"format": "adaptivenet-pack", "version": 2})"), "edited or damaged"));
}

TEST(Pack, RefusesMissingAndUnknownFieldsEverywhere) {
  const std::string places[] = {"", "/cuts/0", "/blocks/0", kArtifact, "/metrics/top1", "/preprocessing"};
  const Json good = tiny_manifest();
  for (const std::string& place : places) {
    EXPECT_TRUE(says(refused(set(place + "/extra", 1)), "'extra'")) << place;
    for (const auto& [key, value] : good[at(place)].items()) {
      const auto erase = [&place, &key = key](Json& manifest) { manifest[at(place)].erase(key); };
      refused(erase);
      if (key == "format" || key == "version") continue;
      EXPECT_TRUE(says(refused(erase), "'" + key + "' is missing"));
    }
  }
}

TEST(Pack, RefusesOtherTypesEverywhere) {
  const Json others[] = {nullptr, true, 1.0, "", Json::array(), Json::object(), Json::array({Json::object()}), -1};
  const Json flat = tiny_manifest().flatten();
  for (const auto& [place, value] : flat.items()) {
    if (place.starts_with("/classes") || place.starts_with("/provenance")) continue;
    for (const Json& other : others) {
      const bool allowed = (other.is_null() && (place.ends_with("error") || place.ends_with("tolerance") ||
                                                place.ends_with("resize_short"))) ||
                           (other == "" && place.ends_with("source")) ||
                           (other.is_number() && place.starts_with("/preprocessing/mean")) ||
                           (other == 1.0 && (place.ends_with("tolerance") || place.starts_with("/preprocessing/s")));
      allowed ? accepted(set(place, other)) : void(refused(set(place, other)));
    }
  }
}

TEST(Pack, RefusesValuesThatAreTooSmallOrTooLarge) {
  const std::int64_t most = 9007199254740991;
  accepted(set("/blocks/0/macs", most));
  accepted(set(kArtifact + "/bytes", most));
  refused(set(kArtifact + "/bytes", 0));
  accepted(set("/cuts/1/shape", Json::array({1, 1, 1, 1, 1, 1, 1, 2147483647})));
  accepted(set("/cuts/1/shape", Json(std::vector<int>(8, 2147483647))));
  refused(set("/cuts/1/shape", Json(std::vector<int>(9, 1))));
  refused(set("/cuts/1/shape", Json::array()));
  refused(set("/cuts/1/shape", {1, 0}));
  refused(set("/cuts/1/shape", {1, 2147483648}));
  refused(set("/cuts/1/shape", {1, 16.0}));
  accepted(set("/blocks/4/ratio", 1));
  accepted(set("/blocks/4/ratio", nullptr));
  refused(set("/blocks/4/ratio", 1.0000000000000002));
  refused(set("/blocks/4/ratio", -1e-300));
  accepted(set("/blocks/4/ratio", -0.0));
  accepted(set("/blocks/4/loss", 1e300));
  refused(set("/blocks/4/loss", -1));
  refused(set("/preprocessing/std/1", 0));
  refused(set("/preprocessing/std/1", -0.0));
  accepted(set("/preprocessing/std/1", 5e-324));
  refused(set("/preprocessing/scale", 0));
  refused(set("/preprocessing/mean", {0, 0}));
  refused(set("/preprocessing/mean", {0, 0, 0, 0}));
  accepted(set("/preprocessing/resize_short", 16384));
  refused(set("/preprocessing/resize_short", 16385));
  refused(set("/classes", Json::array()));
  accepted(set("/classes", nullptr));
  accepted(set("/classes", {"same", "same"}));
  accepted(set("/metrics", Json::object()));
  refused(set("/metrics/top1/sums", Json::array()));
  accepted(set("/metrics/top1/sums", std::vector<std::string>(4096, "s")));
  refused(set("/metrics/top1/sums", std::vector<std::string>(4097, "s")));
  const Json decibels = {{"unit", "dB"}, {"worst", 0}, {"best", 60}};
  accepted(set("/metrics/top1/score", decibels));
  EXPECT_TRUE(says(refused([&](Json& manifest) {
                     manifest["metrics"]["top1"]["score"] = decibels;
                     manifest["metrics"]["top1"]["sums"] = {"one", "two", "three"};
                   }),
                   "metric 'top1' has a score and an odd number of sums"));
  refused(set("/metrics/top1/score", {{"unit", "dB"}, {"worst", 1}, {"best", 1}}));
  refused(set("/metrics/top1/score", {{"unit", "dB"}, {"worst", 1}, {"best", 2e9}}));
  refused(set("/metrics/top1/operands", Json::array()));
  refused(set("/metrics/top1/operands", {"label", "label"}));
  refused(set("/metrics/top1/operands", {"secret"}));
  accepted(set("/metrics/top1/operands", {"label", "oracle", "output"}));
  refused(set(kArtifact + "/layout", "nhwc"));
}

TEST(Pack, AnInt8BlockMayNameTheFloat32BlockThatItWasMadeFrom) {
  const auto twin = [](const Json& precision, const Json& of) {
    return [=](Json& manifest) {
      manifest["blocks"][4]["precision"] = precision;  // p0, from cut 0 to cut 1
      manifest["blocks"][4]["twin_of"] = of;
    };
  };
  accepted(twin("int8", "o0"));
  accepted(twin("int8", "not-here"));
  accepted(twin("int8", nullptr));
  accepted(twin("float32", nullptr));
  EXPECT_TRUE(says(refused(twin("float32", "o0")), "'p0' says that it was quantised from 'o0'"));
  EXPECT_TRUE(says(refused(twin("int8", "o1")), "between the same cuts"));
  EXPECT_TRUE(says(refused(twin("int8", "p0")), "between the same cuts"));
  refused(twin("int8", "no name"));
  refused(twin("int8", 1));
}

TEST(Pack, RefusesTooManyEntries) {
  const auto many_metrics = [](std::size_t count) {
    return [count](Json& manifest) {
      const Json metric = manifest["metrics"]["top1"];
      for (std::size_t at = 2; at < count; ++at) manifest["metrics"]["m" + std::to_string(at)] = metric;
    };
  };
  accepted(many_metrics(64));
  EXPECT_TRUE(says(refused(many_metrics(65)), "more than 64 fields"));
  const auto many_lines = [](std::size_t count) {
    return [count](Json& manifest) {
      for (std::size_t at = 1; at < count; ++at) manifest["provenance"][std::to_string(at)] = "";
    };
  };
  accepted(many_lines(1024));
  EXPECT_TRUE(says(refused(many_lines(1025)), "more than 1024 fields"));
  EXPECT_TRUE(says(refused(set("/cuts", Json::array({tiny_manifest()["cuts"][0]}))), "has 1 entries"));
  refused(set("/cuts", Json(1025, tiny_manifest()["cuts"][0])));
  refused(set("/blocks", Json::array()));
  EXPECT_TRUE(says(refused(set("/blocks", Json(16385, tiny_manifest()["blocks"][0]))), "has 16385 entries"));
  refused(set("/classes", Json(100001, "c")));
  accepted(set("/classes", Json(100000, "c")));
  accepted(set("/taps", Json(1024, 1)));
  refused(set("/taps", Json(1025, 1)));
}

TEST(Pack, RefusesHostileNames) {
  for (const std::string name :
       {"../b0", "/b0", "b0/..", "..", ".b0", "-b", "_b", "b0\n", "b\x1b[31m", "", "b 0", "é", "b\\0"}) {
    refused(set("/blocks/4/name", name));
    refused([&](Json& manifest) { manifest["metrics"][name] = manifest["metrics"]["top1"]; });
    refused(set("/metrics/top1/sums/0", name));
    refused(set("/blocks/4/kind", name));
  }
  accepted(set("/blocks/4/name", std::string(64, 'b')));
  refused(set("/blocks/4/name", std::string(65, 'b')));
  accepted(set("/blocks/4/kind", std::string(32, 'k')));
  refused(set("/blocks/4/kind", std::string(33, 'k')));
  refused(set("/blocks/4/kind", "Pruned"));
  refused(set("/blocks/4/kind", "0pruned"));
  accepted(set("/blocks/4/name", "0_A-z"));
}

TEST(Pack, RefusesHostileFileNames) {
  const std::string digest(64, 'a');
  const std::string files[] = {"../" + digest + ".onnx",
                               "blobs/../../outside.onnx",
                               "blobs/../blobs/" + digest + ".onnx",
                               "/etc/passwd",
                               "/blobs/" + digest + ".onnx",
                               "blobs//" + digest + ".onnx",
                               "blobs/" + std::string(64, 'A') + ".onnx",
                               "blobs/" + digest + ".so",
                               "blobs/" + digest + ".onnx\n",
                               "blobs/" + digest + ".onnx" + '\0',
                               "blobs/" + digest,
                               "blobs/" + digest + "a.onnx",
                               "blobs/" + digest + "onnx",
                               "blobs/" + digest.substr(1) + "g.onnx",
                               digest + ".onnx",
                               "blobs/"};
  for (const std::string& file : files) {
    EXPECT_TRUE(says(refused(set(kArtifact + "/file", file)), "artifacts.onnx.file")) << file;
  }
}

TEST(Pack, LinesHoldNoControlCharacters) {
  for (const std::string text : {"\n", "a\tb", "\x1b[31m", "\x7f", "\xC2\x80", "a\xC2\x9F"}) {
    for (const char* place : {"/name", "/blocks/0/source", "/classes/0", "/provenance/license"}) {
      refused(set(place, text));
    }
    refused([&](Json& manifest) { manifest["provenance"][text] = "x"; });
  }
  std::string long_line;
  for (int at = 0; at < 4096; ++at) long_line += "é";
  accepted(set("/blocks/0/source", long_line));
  refused(set("/blocks/0/source", long_line + "é"));
  accepted(set("/blocks/0/source", "\xC2\xA0 \xE2\x80\xA8 😀"));
  accepted(set("/name", long_line.substr(0, 400)));
  refused(set("/name", long_line.substr(0, 402)));
  refused(set("/name", ""));
  accepted([](Json& manifest) { manifest["provenance"][""] = ""; });
}

TEST(Pack, MadeFromIsADigest) {
  accepted(set(kArtifact + "/made_from", nullptr));
  accepted(set(kArtifact + "/made_from", std::string(64, '0')));
  refused(set(kArtifact + "/made_from", std::string(64, '0') + "\n"));
  refused(set(kArtifact + "/made_from", std::string(63, '0')));
  refused(set(kArtifact + "/made_from", ""));
}

TEST(Pack, BlocksAreAGraph) {
  EXPECT_TRUE(says(refused(set("/blocks/0/kind", "pruned")), "no original block from cut 0"));
  EXPECT_TRUE(says(refused([](Json& manifest) { manifest["cuts"].erase(1); }), "cuts must be numbered"));
  EXPECT_TRUE(says(refused(set("/blocks/0/end", 0)), "must go forward"));
  EXPECT_TRUE(says(refused(set("/blocks/0/end", 9007199254740991)), "the last cut is 4"));
  EXPECT_TRUE(says(refused(set("/blocks/0/start", 4294967296)), "must go forward"));  // 0 in 32 bits
  EXPECT_TRUE(says(refused(set("/blocks/0/name", "o1")), "name 'o1' twice"));
  EXPECT_TRUE(says(refused(set("/taps", {2})), "jumps over cut 2, which is a tap"));
  EXPECT_TRUE(says(refused(set("/taps", {4})), "is no cut before the last"));
  EXPECT_TRUE(says(refused(set("/taps", {4294967297})), "is no cut before the last"));  // 1 in 32 bits
  accepted(set("/taps", {0}));
  accepted(set("/taps", {1, 1}));
  accepted(set("/taps", Json::array()));
}

TEST(Pack, TapsMayComeInAnyOrder) {
  Json manifest = tiny_manifest();
  manifest["blocks"].erase(6);
  manifest["blocks"].erase(5);
  manifest["taps"] = {3, 1, 3};
  EXPECT_EQ(Pack::parse(with_digest(manifest)).graph().taps(), (std::vector<int>{1, 3}));
}

TEST(Pack, PreprocessingFitsCut0) {
  EXPECT_TRUE(says(refused(set("/preprocessing/height", 1)), "but cut 0 is float32 (1, 3, 2, 2)"));
  EXPECT_TRUE(says(refused(set("/cuts/0/dtype", "float16")), "but cut 0 is float16"));
  EXPECT_TRUE(says(refused(set("/cuts/0/shape", {2, 3, 2, 2})), "but cut 0 is"));
  EXPECT_TRUE(says(refused(set("/preprocessing/resize_short", 1)), "resize_short is 1"));
  accepted(set("/preprocessing/resize_short", 2));
  accepted([](Json& wide) {
    wide["preprocessing"]["width"] = 3;
    wide["preprocessing"]["resize_short"] = 2;
    wide["cuts"][0]["shape"] = {1, 3, 2, 3};
  });
  accepted(set("/preprocessing", nullptr));
}

TEST(Pack, OutputsHoldAsManyNumbersAsTheLastCut) {
  const auto outputs = [](const Json& one, const Json& other) {
    return set("/outputs", {{{"name", "boxes"}, {"shape", one}}, {{"name", ""}, {"shape", other}}});
  };
  accepted(outputs({1, 4}, Json::array({1})));
  accepted(outputs({3, 1, 1}, {1, 2}));
  EXPECT_TRUE(says(refused(outputs({1, 4}, {1, 2})), "the outputs do not hold as many"));
  refused(outputs({1, 2}, {1, 2}));
  refused(outputs(Json(8, 2147483647), {1, 2}));
  refused(outputs({2147483647, 2147483647}, {2147483647, 2147483647}));
  refused(set("/outputs", Json::array()));
  refused(set("/outputs", Json::array({{{"name", "boxes"}, {"shape", {1, 5}}}})));
  refused(set("/outputs", nullptr));
  const auto with_last_cut = [&](const Json& shape) {
    return [=](Json& manifest) {
      manifest[at("/cuts/4/shape")] = shape;
      outputs({1, 4}, Json::array({1}))(manifest);
    };
  };
  refused(with_last_cut({5, 1, 1}));
  accepted(with_last_cut({5, 1}));
  accepted([&](Json& manifest) {
    manifest[at("/cuts/4/shape")] = {2147483647, 2147483647};
    outputs({2147483647, 2147483646}, Json::array({2147483647}))(manifest);
  });
}

TEST(Pack, ArtifactsFitTheirBackend) {
  const Json artifact = tiny_manifest()[at(kArtifact)];
  EXPECT_TRUE(says(refused(set("/blocks/0/artifacts", {{"executorch", artifact}})), "whose files end in .pte"));
  EXPECT_TRUE(says(refused(set("/blocks/0/artifacts", Json::object())), "there is no artifact"));
  EXPECT_TRUE(says(refused(set("/blocks/0/artifacts/tvm", artifact)), "unknown field 'tvm'"));
  Json pte = artifact;
  pte["file"] = "blobs/" + std::string(64, 'a') + ".pte";
  EXPECT_TRUE(says(refused(set("/blocks/0/artifacts/executorch", pte)), "for the backends that others"));
  EXPECT_TRUE(says(refused(set("/metrics/top1/artifacts/executorch", pte)), "for the backends that others"));
  accepted([&](Json& manifest) {
    for (Json& block : manifest["blocks"]) block["artifacts"] = {{"executorch", pte}};
    for (Json& metric : manifest["metrics"]) metric["artifacts"] = {{"executorch", pte}};
  });
  accepted(set(kArtifact + "/max_abs_error", 1e-4));
  EXPECT_TRUE(says(refused(set(kArtifact + "/max_abs_error", 1.1e-4)), "more than the tolerance of 0.0001"));
  accepted([](Json& manifest) { manifest[at(kArtifact)].update({{"max_abs_error", 9e9}, {"tolerance", nullptr}}); });
}

}  // namespace
}  // namespace adaptivenet
