#include "serving/slot.h"

#include <gtest/gtest.h>

#include <thread>

namespace adaptivenet {
namespace {

ReadyPtr ready(std::size_t point) {
  auto made = std::make_unique<Ready>();
  made->point = point;
  return made;
}

TEST(Slot, ReturnsWhatDoesNotRun) {
  Slot slot;
  EXPECT_EQ(slot.take(), nullptr);
  EXPECT_EQ(slot.put(ready(1)), nullptr);
  EXPECT_EQ(slot.put(ready(2))->point, 1u);
  EXPECT_EQ(slot.given_up(), nullptr);
}

TEST(Slot, TheNewestIsTakenAfterTheInferenceThatRuns) {
  Slot slot;
  slot.put(ready(1));
  Ready* runs = slot.take();
  EXPECT_EQ(slot.put(ready(2)), nullptr) << "1 runs";
  EXPECT_EQ(slot.put(ready(3))->point, 2u) << "2 has never run";
  EXPECT_EQ(slot.given_up(), nullptr);
  EXPECT_TRUE(slot.give_back(runs));
  EXPECT_EQ(slot.given_up()->point, 1u);
  EXPECT_EQ(slot.given_up(), nullptr);
  runs = slot.take();
  EXPECT_EQ(runs->point, 3u);
  EXPECT_FALSE(slot.give_back(runs));
}

TEST(Slot, NothingIsLostBetweenTwoThreads) {
  constexpr std::size_t kCount = 20'000;
  Slot slot;
  slot.put(ready(0));
  std::size_t last = 0, returned = 0;
  bool in_order = true;
  std::thread infers([&] {
    while (last != kCount) {
      Ready* runs = slot.take();
      in_order &= runs->point >= last;
      last = runs->point;
      slot.give_back(runs);
    }
  });
  for (std::size_t point = 1; point <= kCount; ++point) {
    returned += slot.put(ready(point)) != nullptr;
    while (slot.given_up()) ++returned;
  }
  infers.join();
  while (slot.given_up()) ++returned;
  EXPECT_TRUE(in_order);
  EXPECT_EQ(returned, kCount) << "all but the last one come back, each once";
}

}  // namespace
}  // namespace adaptivenet
