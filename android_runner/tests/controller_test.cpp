// The controller decides as the one in Python does: both replay tests/vectors/controller.json.
#include "serving/controller.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "core/json.h"

namespace adaptivenet {
namespace {

TEST(Controller, DecidesAsThePythonOneDoes) {
  std::ifstream file(TEST_VECTORS "/controller.json");
  const Json vectors = Json::parse(file);
  ASSERT_GE(vectors["cases"].size(), 5u);
  for (const Json& trace : vectors["cases"]) {
    SCOPED_TRACE(trace["name"].get<std::string>());
    Controller controller(trace["latencies_ms"].get<std::vector<double>>(), trace["budget_ms"].get<double>());
    EXPECT_EQ(controller.point(), trace["points"][0].get<std::size_t>());
    for (std::size_t index = 0; index < trace["observed_ms"].size(); ++index) {
      controller.observe(trace["observed_ms"][index].get<double>());
      EXPECT_EQ(controller.point(), trace["points"][index + 1].get<std::size_t>()) << "after " << index;
      const double expected = trace["slowdowns"][index].get<double>();
      EXPECT_NEAR(controller.slowdown(), expected, 1e-12 * expected);
    }
  }
}

TEST(Controller, NeedsAPointWithinTheBudget) {
  EXPECT_THROW(Controller({5, 8}, 4.9), BudgetError);
  EXPECT_EQ(Controller({5, 8}, 5).point(), 0u);
  EXPECT_EQ(Controller({5, 8}, 8).point(), 1u);
}

TEST(Controller, NeedsAFront) {
  EXPECT_THROW(Controller({}, 10), DeviceError);
  EXPECT_THROW(Controller({8, 5}, 10), DeviceError);
  EXPECT_THROW(Controller({0, 5}, 10), DeviceError);
}

TEST(Controller, KeepsServingWhenNothingFits) {
  Controller controller({5, 8, 10}, 10);
  for (int index = 0; index < 20; ++index) controller.observe(500);
  EXPECT_EQ(controller.point(), 0u);
}

}  // namespace
}  // namespace adaptivenet
