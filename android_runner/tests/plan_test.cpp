#include "evaluate/plan.h"

#include "core/error.h"
#include "refusal.h"
#include "tiny_pack.h"

namespace adaptivenet {
namespace {

const Pack& pack() {
  static const Pack parsed = Pack::parse(with_digest(tiny_manifest()));
  return parsed;
}

std::string refused(const Json& document) {
  const std::string message = refusal<PlanError>([&] { Plan::from_json(pack(), document); });
  EXPECT_EQ(message.find('\n'), std::string::npos);
  return message;
}

std::string refused(const std::string& field, const Json& value) {
  Json document = tiny_plan();
  document[field] = value;
  return refused(document);
}

std::string refused(std::size_t place, const Json& instruction) {
  Json document = tiny_plan();
  document["instructions"][place] = instruction;
  return refused(document);
}

Json list(const std::string& text) { return parse_json(text); }

TEST(Plan, IsReadAsItWasWritten) {
  const Plan plan = Plan::from_json(pack(), tiny_plan());
  EXPECT_EQ(plan.slots, 5);
  EXPECT_EQ(plan.peak_bytes, 248);
  EXPECT_EQ(plan.block_runs, 5);
  EXPECT_EQ(plan.metrics, (std::vector<std::string>{"top1"}));
  EXPECT_EQ(plan.subnets, (std::vector<Subnet>{{"o0", "m1", "o3"}, {"o0", "o1", "m3"}}));
  ASSERT_EQ(plan.instructions.size(), 13u);
  const auto& head = std::get<adaptivenet::Run>(plan.instructions[3]);
  EXPECT_EQ(head.block, "o3");
  EXPECT_EQ(head.sources, (std::vector<int>{3, 2}));
  EXPECT_EQ(head.target, 4);
  const Score& score = std::get<Score>(plan.instructions[11]);
  EXPECT_EQ(score.subnet, 1);
  EXPECT_EQ(score.metric, "top1");
  EXPECT_EQ(score.operands, (std::vector<int>{4, 1}));
  EXPECT_EQ(std::get<Free>(plan.instructions[1]).slot, 0);
  EXPECT_TRUE(plan.reads_labels());
}

TEST(Plan, ComparesWithTheOracle) {
  Json document = list(R"({
    "subnets": [["p0", "m1", "o3"]], "metrics": ["agreement"], "slots": 6, "peak_bytes": 284, "block_runs": 7,
    "instructions": [
      ["run", "o0", [0], 2], ["run", "o1", [2], 3], ["run", "o2", [3], 4], ["free", 3], ["run", "o3", [4, 2], 3],
      ["free", 2], ["free", 4], ["run", "p0", [0], 2], ["free", 0], ["run", "m1", [2], 4], ["run", "o3", [4, 2], 5],
      ["score", 0, "agreement", [5, 3]], ["free", 2], ["free", 3], ["free", 4], ["free", 5]
    ]})");
  const Plan plan = Plan::from_json(pack(), document);
  EXPECT_FALSE(plan.reads_labels());
  EXPECT_EQ(plan.peak_bytes, 48 + 200 + 16 + 20);
  document["instructions"][11][3] = {3, 5};
  EXPECT_TRUE(says(refused(document), "features that are not its own output"));
}

// Begins from o0 and o0-m1; keeps o0-o1, and o0-m1 no longer.
Json keeping_plan() {
  return list(R"({
    "subnets": [["o0", "m1", "o3"], ["o0", "o1", "m3"]], "metrics": ["top1"], "slots": 5, "peak_bytes": 264,
    "block_runs": 3, "kept": [[4, ["o0"]], [7, ["o0", "m1"]]], "kept_bytes": 216,
    "instructions": [
      ["free", 0], ["recall", 4, 2], ["recall", 7, 3], ["drop", 7], ["run", "o3", [3, 2], 4], ["free", 3],
      ["score", 0, "top1", [4, 1]], ["free", 4],
      ["run", "o1", [2], 3], ["keep", 3, 0], ["run", "m3", [3, 2], 4], ["free", 3], ["free", 2],
      ["score", 1, "top1", [4, 1]], ["free", 4]
    ]})");
}

std::string refused_keeping(const std::string& field, const Json& value) {
  Json document = keeping_plan();
  document[field] = value;
  return refused(document);
}

std::string refused_keeping(std::size_t place, const Json& instruction) {
  Json document = keeping_plan();
  document["instructions"][place] = instruction;
  return refused(document);
}

TEST(Plan, KeepsFeatures) {
  const Plan plan = Plan::from_json(pack(), keeping_plan());
  EXPECT_EQ(plan.peak_bytes, 200 + 16 + 48);  // when it begins
  EXPECT_EQ(plan.kept_bytes, 200 + 16);
  EXPECT_EQ(std::get<Recall>(plan.instructions[2]).key, 7);
  EXPECT_EQ(std::get<Recall>(plan.instructions[2]).slot, 3);
  EXPECT_EQ(std::get<Drop>(plan.instructions[3]).key, 7);
  EXPECT_EQ(std::get<Keep>(plan.instructions[9]).slot, 3);
  EXPECT_EQ(std::get<Keep>(plan.instructions[9]).key, 0);
  ASSERT_TRUE(plan.kept.has_value());
  ASSERT_EQ(plan.kept->size(), 2u);
  ASSERT_EQ(plan.keeps.size(), 2u);
  EXPECT_EQ(plan.keeps.at(4), plan.kept->at(4));
  EXPECT_NE(plan.keeps.at(0), plan.kept->at(7));  // of the same cut, by other blocks
  EXPECT_FALSE(Plan::from_json(pack(), tiny_plan()).kept.has_value());
}

TEST(Plan, RefusesHostileKeeping) {
  EXPECT_TRUE(says(refused_keeping("kept", Json::object()), "kept must be a list"));
  EXPECT_TRUE(says(refused_keeping("kept", {4}), "kept must be a list"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, ["o0"], 1]])")), "pairs of a key and blocks"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, ["o0"]], [4, ["o0"]]])")), "each key once"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[true, ["o0"]]])")), "key must be a whole number"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, "o0"]])")), "key 4 must be a list"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[-1, ["o0"]]])")), "begins from key -1"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[2147483648, ["o0"]]])")), "begins from key 2147483648"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, []]])")), "plan key 4: no blocks"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, ["o1"]]])")), "plan key 4: block 'o1' starts at cut 1"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, ["x"]]])")), "plan key 4: there is no block 'x'"));
  EXPECT_TRUE(says(refused_keeping("kept", list(R"([[4, ["o0"]]])")), "names key 7"));
  EXPECT_TRUE(
      says(refused_keeping("kept", list(R"([[4, ["p0"]], [7, ["o0", "m1"]]])")), "features of different paths"));
  EXPECT_TRUE(says(refused_keeping("kept_bytes", 215), "states kept_bytes 215; its instructions come to 216"));
  EXPECT_TRUE(says(refused_keeping("kept_bytes", Json()), "kept_bytes must be a whole number"));
  for (const char* field : {"kept", "kept_bytes"}) {
    Json document = keeping_plan();
    document.erase(field);
    EXPECT_TRUE(says(refused(document), "with exactly"));
  }
  EXPECT_TRUE(says(refused_keeping(3, {"drop", 3}), "names key 3, under which nothing is kept"));
  EXPECT_TRUE(says(refused_keeping(3, {"drop", 4294967303}), "names key 4294967303"));  // 7 in 32 bits
  EXPECT_TRUE(says(refused_keeping(0, {"drop", 4}), "names key 4"));                    // when it is recalled
  EXPECT_TRUE(says(refused_keeping(1, {"recall", 4, 1}), "writes slot 1"));
  EXPECT_TRUE(says(refused_keeping(1, {"recall", 4, 3}), "writes slot 3"));
  EXPECT_TRUE(says(refused_keeping(1, {"recall", 4}), "recall, keep or drop with its operands"));
  EXPECT_TRUE(says(refused_keeping(9, {"keep", 3, 4}), "under key 4: it must be unused"));
  EXPECT_TRUE(says(refused_keeping(9, {"keep", 3, -1}), "under key -1"));
  EXPECT_TRUE(says(refused_keeping(9, {"keep", 3, 2147483648}), "under key 2147483648"));
  EXPECT_TRUE(says(refused_keeping(9, {"keep", 4, 0}), "reads slot 4, which is empty"));
  EXPECT_TRUE(says(refused_keeping(9, {"keep", 1, 0}), "reads slot 1, which is empty"));
  EXPECT_TRUE(says(refused_keeping(0, {"keep", 0, 0}), "keeps the input"));
  EXPECT_TRUE(says(refused(1, {"keep", 2, 0}), "in a plan that does not say what is kept"));
}

TEST(Plan, RefusesOtherDocuments) {
  for (const Json& document :
       {Json(), Json::array(), Json("plan"), Json::object(), Json{{"instructions", Json::array()}}}) {
    EXPECT_TRUE(says(refused(document), "a plan must be an object with exactly"));
  }
  EXPECT_TRUE(says(refused("extra", 1), "a plan must be an object with exactly"));
  const Json good = tiny_plan();
  for (const auto& [key, value] : good.items()) {
    Json document = good;
    document.erase(key);
    refused(document);
    document["x"] = value;
    refused(document);
    for (const Json& other : {Json(), Json(true), Json(1.0), Json("x"), Json{{"a", 1}}, Json{nullptr}, Json{Json{1}}}) {
      refused(key, other);
    }
  }
}

TEST(Plan, RefusesHostileFields) {
  EXPECT_TRUE(says(refused("subnets", "m0"), "subnets must be a list"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["o0", "m1", "o3"], "m1"])")), "a subnet must be a list"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["o0", 3]])")), "a subnet must be a list of strings"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["o0", "m1", "o3"], ["o0"]])")), "plan subnet 1: not a subnet"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["x"]])")), "plan subnet 0: there is no block 'x'"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["o0", "m1", "o3"]])")), "scores subnet 1"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["o0","m1","o3"], ["o0","o1","m3"], ["o0","m1","o3"]])")),
                   "makes 2 scores for 3 subnets"));
  EXPECT_TRUE(says(refused("subnets", list(R"([["o0", "o1", "m3"], ["o0", "m1", "o3"]])")),
                   "features that are not its own output"));
  EXPECT_TRUE(says(refused("metrics", {"agreement"}), "scores subnet 0 by 'top1'"));
  EXPECT_TRUE(says(refused("metrics", {"top1", "agreement"}), "makes 2 scores for 2 subnets by 2 metrics"));
  EXPECT_TRUE(says(refused("metrics", {"top1", "top1"}), "makes 2 scores for 2 subnets by 2 metrics"));
  EXPECT_TRUE(says(refused("metrics", {"bleu"}), "has no metric 'bleu'"));
  EXPECT_TRUE(says(refused("subnets", Json::array()), "nothing to evaluate: 0 subnets, 1 metrics"));
  EXPECT_TRUE(says(refused("metrics", Json::array()), "nothing to evaluate: 2 subnets, 0 metrics"));
  EXPECT_TRUE(says(refused("slots", 1000000000000), "states slots 1000000000000; its instructions come to 5"));
  EXPECT_TRUE(says(refused("slots", true), "slots must be a whole number"));
  EXPECT_TRUE(says(refused("peak_bytes", 1), "states peak_bytes 1; its instructions come to 248"));
  EXPECT_TRUE(says(refused("block_runs", 5.0), "block_runs must be a whole number"));
  EXPECT_TRUE(says(refused("instructions", Json::array()), "never frees slot 0"));
}

TEST(Plan, RefusesHostileInstructions) {
  const auto run = [](const Json& block, const Json& sources, const Json& target) {
    return Json{"run", block, sources, target};
  };
  EXPECT_TRUE(says(refused(0, run("../o0", {0}, 2)), "runs block '../o0', which this pack does not have"));
  EXPECT_TRUE(says(refused(0, run("o1", {0}, 2)), "on the features at cuts [0]; it reads [1]"));
  EXPECT_TRUE(says(refused(0, run("o0", Json::array(), 2)), "on the features at cuts []; it reads [0]"));
  EXPECT_TRUE(says(refused(0, run("o0", {0, 0}, 2)), "on the features at cuts [0,0]"));
  EXPECT_TRUE(says(refused(0, run("o0", 0, 2)), "run, score, free, recall, keep or drop with its operands"));
  EXPECT_TRUE(says(refused(0, run("o0", {5}, 2)), "reads slot 5, which is empty"));
  EXPECT_TRUE(says(refused(0, run("o0", {-1}, 2)), "reads slot -1, which is empty"));
  EXPECT_TRUE(says(refused(0, run("o0", {4294967296}, 2)), "reads slot 4294967296, which is empty"));
  EXPECT_TRUE(says(refused(0, run("o0", {1}, 2)), "reads slot 1, which is empty"));  // the label is no feature
  for (const std::int64_t target : {0, 1, -7, 3, 1000000000}) {
    EXPECT_TRUE(says(refused(0, run("o0", {0}, target)), "must be empty, from 2 to 2"));
  }
  EXPECT_TRUE(says(refused(0, run("o0", {0}, 4294967298)), "must be empty, from 2 to 2"));  // 2 in 32 bits
  EXPECT_TRUE(says(refused(0, run("o0", {0}, 2.0)), "slot must be a whole number"));
  EXPECT_TRUE(says(refused(0, run("o0", {false}, 2)), "slot must be a whole number"));
  for (const std::string text : {R"(["run", "o0", [0]])", R"(["run", "o0", [0], 2, 3])", R"(["run", ["o0"], [0], 2])",
                                 R"(["load", "o0"])", R"("run")", R"({"run": "o0"})", "[]", "null", R"([["run"]])",
                                 R"(["free"])", R"(["free", 0, 1])", R"(["score", 0, "top1"])"}) {
    EXPECT_TRUE(says(refused(0, list(text)), "run, score, free"));
  }
  EXPECT_TRUE(says(refused(1, {"free", 1}), "reads slot 1, which is empty"));
  EXPECT_TRUE(says(refused(1, {"free", 3}), "reads slot 3, which is empty"));
  EXPECT_TRUE(says(refused(1, {"free", 2}), "reads slot 2, which is empty"));  // what was freed is read later
  EXPECT_TRUE(says(refused(2, run("m1", {2}, 2)), "writes slot 2"));
  EXPECT_TRUE(says(refused(3, run("o3", {3}, 4)), "on the features at cuts [3]; it reads [3,1]"));
  EXPECT_TRUE(says(refused(3, run("o3", {2, 3}, 4)), "on the features at cuts [1,3]; it reads [3,1]"));
}

TEST(Plan, RefusesHostileScores) {
  const auto score = [](const Json& subnet, const std::string& metric, const Json& operands) {
    return Json{"score", subnet, metric, operands};
  };
  EXPECT_TRUE(says(refused(5, score(0, "top1", {2, 1})), "features that are not its own output"));
  EXPECT_TRUE(says(refused(5, score(0, "top1", Json::array({1}))), "reads other operands"));
  EXPECT_TRUE(says(refused(5, score(0, "top1", Json::array())), "reads other operands"));
  EXPECT_TRUE(says(refused(5, score(0, "top1", {4, 2})), "reads other operands"));
  EXPECT_TRUE(says(refused(5, score(0, "top1", {9, 1})), "reads slot 9, which is empty"));
  EXPECT_TRUE(says(refused(5, score(0, "top1", {4, 4294967297})), "reads slot 4294967297"));
  EXPECT_TRUE(says(refused(5, score(1, "top1", {4, 1})), "features that are not its own output"));
  EXPECT_TRUE(says(refused(5, score(-1, "top1", {4, 1})), "scores subnet -1"));
  EXPECT_TRUE(says(refused(5, score(2, "top1", {4, 1})), "scores subnet 2"));
  EXPECT_TRUE(says(refused(5, score(4294967296, "top1", {4, 1})), "scores subnet 4294967296"));
  EXPECT_TRUE(says(refused(5, score(0, "agreement", {4, 1})), "by 'agreement': unknown, or scored already"));
  EXPECT_TRUE(says(refused(5, score(0, "top1", "41")), "run, score, free"));
  EXPECT_TRUE(says(refused(5, score("0", "top1", {4, 1})), "subnet must be a whole number"));
  EXPECT_TRUE(says(refused(11, score(0, "top1", {4, 1})), "scored already"));
  for (const Json& operands : {Json{1, 4}, Json{4, 4}, Json::array({4}), Json{4, 1, 1}}) {
    EXPECT_TRUE(says(refused(5, score(0, "top1", operands)), "reads other operands"));
  }
}

TEST(Plan, RefusesAHeadOnFeaturesOfDifferentPaths) {
  // The tap comes from p0, the start from o0.
  EXPECT_TRUE(says(refused(list(R"({
    "subnets": [["o0", "m1", "o3"]], "metrics": ["top1"], "slots": 6, "peak_bytes": 0, "block_runs": 4,
    "instructions": [["run", "o0", [0], 2], ["run", "p0", [0], 3], ["run", "m1", [2], 4], ["run", "o3", [4, 3], 5]]})")),
                   "on features of different paths"));
}

TEST(Plan, RefusesToLoseAnyInstruction) {
  const std::size_t count = tiny_plan()["instructions"].size();
  for (std::size_t at = 0; at < count; ++at) {
    Json document = tiny_plan();
    document["instructions"].erase(at);
    refused(document);
  }
}

TEST(Plan, RefusesMoreBytesThanThereCanBe) {
  Json manifest = tiny_manifest();
  manifest["cuts"][1]["shape"] = std::vector<int>(8, 2147483647);
  const Pack huge = Pack::parse(with_digest(manifest));
  EXPECT_TRUE(says(refusal<PlanError>([&] { Plan::from_json(huge, tiny_plan()); }), "than there can be"));
  manifest["cuts"][1]["shape"] = {2147483647, 268435456};  // 2^61 bytes each: three are too many for 64 bits
  Json document = tiny_plan();
  document["instructions"] = list(R"([["run","o0",[0],2],["run","o0",[0],3],["run","o0",[0],4],["run","o0",[0],5]])");
  EXPECT_TRUE(says(refusal<PlanError>([&] { Plan::from_json(Pack::parse(with_digest(manifest)), document); }),
                   "than there can be"));
}

TEST(Plan, OfManyLongPathsTakesLittle) {
  // A chain of 1000 blocks, and its last one 500 times: as lists of names, the paths would hold a million names.
  Json manifest = tiny_manifest();
  const Json block = manifest["blocks"][0], cut = manifest["cuts"][1];
  manifest.update({{"cuts", Json::array()}, {"blocks", Json::array()}, {"taps", Json::array()}});
  manifest["preprocessing"] = nullptr;
  constexpr int kLength = 1000;
  for (int at = 0; at <= kLength; ++at) {
    manifest["cuts"].push_back(cut);
    manifest["cuts"].back()["index"] = at;
  }
  for (int at = 0; at < kLength; ++at) {
    manifest["blocks"].push_back(block);
    manifest["blocks"].back().update({{"name", "o" + std::to_string(at)}, {"start", at}, {"end", at + 1}});
  }
  Json subnet = Json::array(), instructions = Json::array();
  for (int at = 0; at < kLength; ++at) {
    subnet.push_back("o" + std::to_string(at));
    const Json source = Json::array({at == 0 ? 0 : at + 1});
    instructions.push_back({"run", "o" + std::to_string(at), source, at + 2});
  }
  for (int time = 0; time < 500; ++time) {
    instructions.push_back({"run", "o999", Json::array({kLength}), kLength + 2 + time});
  }
  EXPECT_TRUE(says(refusal<PlanError>([&] {
                     Plan::from_json(Pack::parse(with_digest(manifest)), {{"subnets", Json::array({subnet})},
                                                                          {"metrics", Json::array({"top1"})},
                                                                          {"slots", 0},
                                                                          {"peak_bytes", 0},
                                                                          {"block_runs", 0},
                                                                          {"instructions", instructions}});
                   }),
                   "never frees slot 0"));
}

}  // namespace
}  // namespace adaptivenet
