#include "serving/pager.h"

#include <gtest/gtest.h>

namespace adaptivenet {
namespace {

Piece piece(const std::string& name, std::int64_t bytes = 10) { return {name, {name}, bytes}; }

struct Nothing final : Program {
  FeaturePtr run(std::span<const FeaturePtr>, bool) override { return nullptr; }
};

std::vector<std::string> held(const Pager& pager) {
  std::vector<std::string> names;
  for (const auto& [name, program] : pager.programs()) names.push_back(name);
  return names;
}

void add(Pager& pager, const std::vector<Piece>& pieces) {
  for (const Piece& each : pager.missing_of(pieces)) pager.add(each, std::make_shared<Nothing>());
  pager.touch(pieces);
}

// Four points that share "z"; each has a piece of its own.
const std::vector<std::vector<Piece>> kFront = {
    {piece("a"), piece("z")}, {piece("b"), piece("z")}, {piece("c"), piece("z")}, {piece("d"), piece("z")}};
using Names = std::vector<std::string>;

TEST(Pager, WithoutALimitKeepsWhatRunsAlone) {
  Pager pager(kFront, 0);
  add(pager, kFront[0]);
  add(pager, kFront[1]);
  const ProgramPtr runs = pager.programs().at("b"), also = pager.programs().at("z");
  EXPECT_TRUE(pager.make_room(1'000'000'000, {}, 1));
  EXPECT_EQ(held(pager), (Names{"a", "b", "z"}));
  pager.trim();
  EXPECT_EQ(held(pager), (Names{"b", "z"}));
  EXPECT_EQ(pager.bytes(), 20);
}

TEST(Pager, ReleasesWhatIsFurthestOnTheFront) {
  Pager pager(kFront, 50);
  for (const auto& point : kFront) add(pager, point);
  pager.trim();
  EXPECT_EQ(pager.bytes(), 50);
  const ProgramPtr runs = pager.programs().at("d");
  EXPECT_TRUE(pager.make_room(10, kFront[3], 3));
  EXPECT_EQ(held(pager), (Names{"b", "c", "d", "z"}));
  EXPECT_TRUE(pager.make_room(30, kFront[3], 3));
  EXPECT_EQ(held(pager), (Names{"d", "z"}));
}

TEST(Pager, OfEquallyNearOnesReleasesWhatWasNeededLongAgo) {
  Pager pager(kFront, 40);
  add(pager, kFront[1]);
  add(pager, kFront[2]);
  add(pager, kFront[0]);
  pager.touch({piece("a"), piece("z")});
  EXPECT_TRUE(pager.make_room(10, kFront[1], 1));
  EXPECT_EQ(held(pager), (Names{"a", "b", "z"}));
}

TEST(Pager, NeverReleasesWhatRunsOrIsWanted) {
  Pager pager(kFront, 40);
  add(pager, kFront[0]);
  add(pager, kFront[1]);
  const ProgramPtr runs = pager.programs().at("a");
  EXPECT_FALSE(pager.make_room(30, kFront[1], 1));
  EXPECT_EQ(held(pager), (Names{"a", "b", "z"}));
  EXPECT_FALSE(pager.make_room(41, {}, 1));
  EXPECT_EQ(held(pager), (Names{"a"}));
}

TEST(Pager, LoadsANeighbourAheadWhereThereIsRoom) {
  const auto none = [](std::size_t) { return false; };
  Pager pager(kFront, 40);
  add(pager, kFront[1]);
  EXPECT_EQ(pager.ahead(1, none), 2);
  EXPECT_EQ(pager.ahead(1, [](std::size_t point) { return point == 2; }), 0);
  add(pager, kFront[2]);
  EXPECT_EQ(pager.ahead(1, none), 0);
  add(pager, kFront[0]);
  EXPECT_EQ(pager.ahead(1, none), std::nullopt);
  EXPECT_EQ(pager.ahead(2, none), std::nullopt) << "there is no room for the other neighbour";
  Pager unlimited(kFront, 0);
  add(unlimited, kFront[1]);
  EXPECT_EQ(unlimited.ahead(1, none), std::nullopt);
}

}  // namespace
}  // namespace adaptivenet
