// The controller decides as the one in Python does: both replay tests/vectors/controller.json.
#include "serving/controller.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <string>

#include "core/error.h"
#include "core/json.h"

namespace adaptivenet {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::optional<double> number(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<double>();
}

std::vector<Point> points_of(const Json& list) {
  std::vector<Point> points;
  for (const Json& each : list) {
    points.push_back({each["latency_ms"].get<double>(), number(each, "resident_mb"), number(each, "energy_mj")});
  }
  return points;
}

Budgets budgets_of(const Json& each) {
  return {each["latency_ms"].get<double>(), each["percentile"].get<double>(), number(each, "memory_mb"),
          number(each, "energy_mj")};
}

Signals signals_of(const Json& each) {
  Signals signals{number(each, "free_mb"),
                  number(each, "pressure"),
                  number(each, "celsius"),
                  number(each, "throttles_at"),
                  number(each, "headroom"),
                  number(each, "battery"),
                  {},
                  number(each, "waited")};
  if (each.contains("states")) {
    const std::map<std::string, Sensor> bits = {{"free_mb", kFreeMb},    {"pressure", kPressure}, {"celsius", kCelsius},
                                                {"headroom", kHeadroom}, {"battery", kBattery},   {"waited", kWaited}};
    for (const Json& name : each["states"]) signals.states |= bits.at(name.get<std::string>());
  }
  if (each.contains("charging")) signals.charging = each["charging"].get<bool>();
  return signals;
}

// Whether a decision was made.
bool give(Controller& controller, const Json& record) {
  if (record.is_array()) {
    const double ended_s = record[0].get<double>(), ms = record[1].get<double>();
    return record.size() == 2 ? controller.observe(ended_s, ms)
                              : controller.observe(ended_s, ms, record[2].get<std::size_t>());
  }
  const double at_s = record["at_s"].get<double>();
  if (record.contains("signals")) return controller.sense(at_s, signals_of(record["signals"]));
  controller.set_budget(at_s, budgets_of(record["budgets"]));
  return true;
}

TEST(Controller, DecidesAsThePythonOneDoes) {
  std::ifstream file(TEST_VECTORS "/controller.json");
  const Json vectors = Json::parse(file);
  ASSERT_GE(vectors["cases"].size(), 20u);
  for (const Json& trace : vectors["cases"]) {
    SCOPED_TRACE(trace["name"].get<std::string>());
    Controller controller(points_of(trace["points"]), budgets_of(trace["budgets"]));
    const Json& decisions = trace["decisions"];
    std::size_t made = 0;
    for (std::size_t records = 0;; ++records) {
      if (made < decisions.size() && decisions[made][0] == records) {
        const Json& expected = decisions[made++];
        EXPECT_EQ(controller.point(), expected[1].get<std::size_t>()) << "after " << records;
        EXPECT_EQ(controller.slowdown(), expected[2].get<double>()) << "after " << records;
        EXPECT_EQ(name_of(controller.decision().kind), expected[3].get<std::string>()) << "after " << records;
        EXPECT_EQ(controller.decision().why, expected[4].get<std::string>()) << "after " << records;
      }
      if (records == trace["records"].size()) break;
      const bool decided = give(controller, trace["records"][records]);
      EXPECT_EQ(decided, made < decisions.size() && decisions[made][0] == records + 1) << "after " << records + 1;
    }
    EXPECT_EQ(made, decisions.size());
  }
}

TEST(Controller, NeedsBudgets) {
  const std::vector<Point> points = {{5, {}, {}}, {8, {}, {}}};
  EXPECT_THROW(Controller(points, {0}), BudgetError);
  EXPECT_THROW(Controller(points, {kNaN}), BudgetError);
  EXPECT_THROW(Controller(points, {8, 49}), BudgetError);
  EXPECT_THROW(Controller(points, {8, kNaN}), BudgetError);
  EXPECT_THROW(Controller(points, {8, 50, -1.0}), BudgetError);
  Controller controller(points, {8});
  EXPECT_THROW(controller.set_budget(0, {8, 50, {}, 0.0}), BudgetError);
  EXPECT_EQ(controller.point(), 1u);
}

TEST(Controller, NeedsAFront) {
  EXPECT_THROW(Controller({}, {10}), DeviceError);
  EXPECT_THROW(Controller({{8, {}, {}}, {5, {}, {}}}, {10}), DeviceError);
  EXPECT_THROW(Controller({{0, {}, {}}, {5, {}, {}}}, {10}), DeviceError);
  EXPECT_THROW(Controller({{5, {}, {}}, {kNaN, {}, {}}}, {10}), DeviceError);
}

TEST(Controller, KeepsServingWhenNothingFits) {
  Controller controller({{5, {}, {}}, {8, {}, {}}}, {4.9});
  EXPECT_EQ(controller.point(), 0u);
  EXPECT_EQ(controller.decision().kind, Kind::kNothingFits);
}

TEST(Controller, IgnoresWhatIsNoNumber) {
  Controller controller({{5, {}, {}}, {8, {}, {}}}, {9});
  const Decision before = controller.decision();
  for (int index = 0; index < 50; ++index) {
    for (const double wrong : {kNaN, -1.0, 0.0, std::numeric_limits<double>::infinity()}) {
      EXPECT_FALSE(controller.observe(index, wrong));
      EXPECT_FALSE(controller.sense(kNaN, {wrong, wrong, wrong, wrong, wrong, wrong, {}, wrong}));
    }
  }
  EXPECT_EQ(controller.decision(), before);
  for (int index = 0; index < 10; ++index) controller.observe(kNaN, 40);  // the time goes on by what inferences take
  EXPECT_EQ(controller.point(), 0u);
}

}  // namespace
}  // namespace adaptivenet
