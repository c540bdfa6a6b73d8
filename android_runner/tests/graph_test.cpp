#include "core/graph.h"

#include "core/error.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

std::vector<TensorType> cuts(std::size_t count) { return std::vector<TensorType>(count, {{1}, DType::kFloat32}); }

std::vector<Block> chain(int length) {
  std::vector<Block> blocks;
  for (int at = 0; at < length; ++at) blocks.push_back({"o" + std::to_string(at), at, at + 1, true});
  return blocks;
}

BlockGraph graph(int length, const std::vector<Block>& extra = {}, std::vector<int> taps = {}) {
  std::vector<Block> blocks = extra;  // before the others, so that their order is seen not to matter
  for (const Block& block : chain(length)) blocks.insert(blocks.begin(), block);
  return BlockGraph(cuts(static_cast<std::size_t>(length) + 1), blocks, std::move(taps));
}

std::string refused(int length, const std::vector<Block>& extra, std::vector<int> taps = {}) {
  return refusal<GraphError>([&] { graph(length, extra, taps); });
}

TEST(Graph, KnowsItsBlocksAndItsOracle) {
  const BlockGraph made = graph(3, {{"m0", 0, 2}});
  EXPECT_EQ(made.end(), 3);
  EXPECT_EQ(made.oracle(), (Subnet{"o0", "o1", "o2"}));
  EXPECT_TRUE(made.contains("m0"));
  EXPECT_FALSE(made.contains("m1"));
  EXPECT_EQ(made.block("m0").end, 2);
  EXPECT_TRUE(says(refusal<GraphError>([&] { made.block("../m0"); }), "no block '../m0' in this graph of 4 blocks"));
}

TEST(Graph, HeadsReadTheTaps) {
  const BlockGraph made = graph(4, {{"m2", 2, 4}}, {1, 2});
  EXPECT_EQ(made.reads(made.block("o1")), (std::vector<int>{1}));
  EXPECT_EQ(made.reads(made.block("o3")), (std::vector<int>{3, 1, 2}));
  EXPECT_EQ(made.reads(made.block("m2")), (std::vector<int>{2, 1}));
  EXPECT_EQ(graph(1).reads(graph(1).block("o0")), (std::vector<int>{0}));
}

Block reader(const std::string& name, int start, int end, std::vector<int> reads) {
  return {name, start, end, false, false, std::move(reads)};
}

TEST(Graph, ABlockReadsItsStartThenEarlierCutsAscending) {
  const BlockGraph made = graph(4, {reader("p2", 2, 3, {0, 1}), reader("p3", 3, 4, {0, 2})}, {1, 2});
  EXPECT_EQ(made.reads(made.block("p2")), (std::vector<int>{2, 0, 1}));
  EXPECT_EQ(made.reads(made.block("p3")), (std::vector<int>{3, 0, 1, 2}));
  EXPECT_EQ(made.reads(made.block("o2")), (std::vector<int>{2}));
  EXPECT_EQ(made.kept(), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(graph(3).kept(), std::vector<int>{});
  const BlockGraph first = graph(2, {reader("p1", 1, 2, {0})}, {0, 1});
  EXPECT_EQ(first.reads(first.block("p1")), (std::vector<int>{1, 0}));
}

TEST(Graph, RefusesToReadWhatIsNotBeforeABlock) {
  const std::vector<std::vector<int>> wrong = {{2}, {0, 2}, {3}, {1, 0}, {0, 0}, {-1}};
  for (const std::vector<int>& reads : wrong) {
    EXPECT_TRUE(says(refused(4, {reader("x", 2, 3, reads)}), "must be ascending, and before its start"));
  }
}

TEST(Graph, NoBlockJumpsOverWhatAnotherReads) {
  const Block p2 = reader("p2", 2, 3, {0, 1});
  EXPECT_TRUE(says(refused(4, {p2, {"m0", 0, 2}}), "'m0' jumps over cut 1, which is one that other blocks read"));
  EXPECT_TRUE(says(refused(4, {p2, {"m0", 0, 2}}, {1}), "'m0' jumps over cut 1, which is a tap"));
  EXPECT_NO_THROW(graph(3, {p2, {"whole", 0, 3, false, true}, {"m1", 1, 3}}));
}

TEST(Graph, ANetworkReadsTheInputAloneAndJumpsOverTaps) {
  const BlockGraph made = graph(3, {{"whole", 0, 3, false, true}}, {1, 2});
  EXPECT_EQ(made.reads(made.block("whole")), (std::vector<int>{0}));
  EXPECT_NO_THROW(made.require_subnet({"whole"}));
  EXPECT_TRUE(says(refused(3, {{"whole", 0, 2, false, true}}), "must go from the first cut to the last"));
}

TEST(Graph, RefusesBlocksThatDoNotFit) {
  EXPECT_TRUE(says(refused(2, {{"x", 1, 1}}), "must go forward"));
  EXPECT_TRUE(says(refused(2, {{"x", 2, 1}}), "must go forward"));
  EXPECT_TRUE(says(refused(2, {{"x", -1, 1}}), "must go forward"));
  EXPECT_TRUE(says(refused(2, {{"x", 0, 3}}), "the last cut is 2"));
  EXPECT_TRUE(says(refused(2, {{"x", INT32_MAX - 1, INT32_MAX}}), "the last cut is 2"));
  EXPECT_TRUE(says(refused(2, {{"o0", 0, 1}}), "the block name 'o0' twice"));
  EXPECT_TRUE(says(refused(2, {{"x", 0, 2, true}}), "original and must span one cut"));
  EXPECT_TRUE(says(refused(2, {{"x", 1, 2, true}}), "are both original from cut 1"));
}

TEST(Graph, RefusesAnOracleWithAGap) {
  auto blocks = chain(3);
  blocks[1].original = false;
  EXPECT_TRUE(says(refusal<GraphError>([&] { BlockGraph(cuts(4), blocks, {}); }), "no original block from cut 1"));
  EXPECT_TRUE(says(refusal<GraphError>([&] { BlockGraph(cuts(4), {}, {}); }), "no original block from cut 0"));
}

TEST(Graph, RefusesFewerThanTwoCuts) {
  for (const std::size_t count : {0u, 1u}) {
    EXPECT_TRUE(says(refusal<GraphError>([&] { BlockGraph(cuts(count), {}, {}); }), "there must be 2"));
  }
}

TEST(Graph, RefusesTapsThatAreNoCutsBeforeTheLast) {
  for (const int tap : {-1, 3, 4, INT32_MAX})
    EXPECT_TRUE(says(refused(3, {}, {tap}), "is no cut before the last, 0 to 2"));
  EXPECT_TRUE(says(refused(3, {}, {2, 1}), "ascending and different"));
  EXPECT_TRUE(says(refused(3, {}, {1, 1}), "ascending and different"));
  EXPECT_TRUE(says(refused(3, {{"m0", 0, 2}}, {1}), "jumps over cut 1, which is a tap"));
}

TEST(Graph, TellsSubnetsAndChainsFromOtherLists) {
  const BlockGraph made = graph(3, {{"m0", 0, 2}, {"m1", 1, 3}});
  EXPECT_NO_THROW(made.require_subnet({"m0", "o2"}));
  EXPECT_NO_THROW(made.require_subnet({"o0", "m1"}));
  EXPECT_NO_THROW(made.require_chain({"o1"}));
  EXPECT_NO_THROW(made.require_chain({"o1", "o2"}));
  const auto subnet = [&](const Subnet& names) { return refusal<GraphError>([&] { made.require_subnet(names); }); };
  const auto chain = [&](const Subnet& names) { return refusal<GraphError>([&] { made.require_chain(names); }); };
  EXPECT_TRUE(says(subnet({}), "the path ends at cut 0, the last cut is 3"));
  EXPECT_TRUE(says(subnet({"m0"}), "the path ends at cut 2"));
  EXPECT_TRUE(says(subnet({"m0", "m1"}), "'m1' starts at cut 1, but the path is at cut 2"));
  EXPECT_TRUE(says(subnet({"o1", "o2"}), "'o1' starts at cut 1, but the path is at cut 0"));
  EXPECT_TRUE(says(subnet({"m0", "x"}), "there is no block 'x'"));
  EXPECT_TRUE(says(chain({}), "no blocks"));
  EXPECT_TRUE(says(chain({"o0", "o2"}), "not a chain: block 'o2' starts at cut 2, but the path is at cut 1"));
  EXPECT_TRUE(says(chain({"x"}), "there is no block 'x'"));
  EXPECT_TRUE(says(chain({"o0", "o0"}), "starts at cut 0"));
}

}  // namespace
}  // namespace adaptivenet
