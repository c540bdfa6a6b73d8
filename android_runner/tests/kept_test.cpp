#include "evaluate/kept.h"

#include "core/error.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

const DataName kData{"a", "b"};

Plan plan_of(KeptPaths before, KeptPaths after) {
  Plan plan;
  plan.kept = std::move(before);
  plan.keeps = std::move(after);
  return plan;
}

std::vector<KeptOfImage> two_images() {
  return {{{4, std::make_shared<Feature>()}}, {{4, std::make_shared<Feature>()}}};
}

TEST(KeptFeatures, AreThereOnceForThePlanThatNamesThem) {
  KeptFeatures kept;
  const auto features = two_images();
  kept.put(plan_of({}, {{4, "path"}}), kData, features);
  EXPECT_EQ(kept.take(plan_of({{4, "path"}}, {}), kData, 2), features);
  EXPECT_TRUE(says(refusal<FeaturesLost>([&] { kept.take(plan_of({{4, "path"}}, {}), kData, 2); }),
                   "under key 4, which a plan begins from, are not kept here"));
}

TEST(KeptFeatures, AreOfOneDataAndOneOrderOfBlocks) {
  KeptFeatures kept;
  kept.put(plan_of({}, {{4, "path"}}), kData, two_images());
  refusal<FeaturesLost>([&] { kept.take(plan_of({{4, "path"}}, {}), {"b", "a"}, 2); });
  refusal<FeaturesLost>([&] { kept.take(plan_of({{5, "path"}}, {}), {"a"}, 2); });
  refusal<FeaturesLost>([&] { kept.take(plan_of({{4, "other"}}, {}), kData, 2); });
  refusal<FeaturesLost>([&] { kept.take(plan_of({{4, "path"}}, {}), kData, 2); });  // lost with the one before
}

TEST(KeptFeatures, ThatAPlanDoesNotNameAreLetGo) {
  KeptFeatures kept;
  auto features = two_images();
  const std::weak_ptr<Feature> one = features[1].at(4);
  kept.put(plan_of({}, {{4, "path"}}), kData, std::move(features));
  EXPECT_EQ(kept.take(plan_of({}, {}), kData, 2), std::vector<KeptOfImage>(2));
  EXPECT_TRUE(one.expired());
  features = two_images();
  const std::weak_ptr<Feature> other = features[0].at(4);
  kept.put(plan_of({}, {{4, "path"}}), kData, std::move(features));
  kept.clear();
  EXPECT_TRUE(other.expired());
}

}  // namespace
}  // namespace adaptivenet
