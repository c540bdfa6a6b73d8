// A model serves with every engine of this build: what runs is always one whole subnet, and the right one.
#include "serving/model.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>

#include "core/error.h"
#include "refusal.h"
#include "served.h"

namespace adaptivenet {
namespace {

constexpr int kInputs = 3;

class ServedModel : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!GetParam().starts_with("fake") && !std::filesystem::exists(TINY_PACK "/stamp")) {
      GTEST_SKIP() << "there is no pack in " TINY_PACK ": make one with tests/runner_pack.py";
    }
    served_.emplace(GetParam());
    for (int seed = 0; seed < kInputs; ++seed) inputs_.push_back(input_of(served_->pack, seed));
    for (const PointToServe& point : served_->front) {
      for (const auto& input : inputs_) outputs_[point.subnet].push_back(output_of(*served_, point.subnet, input));
    }
  }

  std::unique_ptr<Model> model(LoaderOptions options = {}) {
    return std::make_unique<Model>(served_->pack, served_->engine, served_->front, std::move(options));
  }

  Subnet subnet(std::size_t point) const { return served_->front[point].subnet; }

  // The output for an input, and what tells of the inference.
  std::vector<std::byte> infer(Model& model, int input, Ran* ran = nullptr) {
    std::vector<std::byte> output(model.output_bytes());
    const Ran found = model.infer(inputs_[input], Layout::kContiguous, output);
    if (ran != nullptr) *ran = found;
    return output;
  }

  // Without a limit that is so: what ran last is released after its inference.
  static void until_nothing_else_is_kept(const Model& model, const Subnet& subnet) {
    while (model.status().resident_bytes != model.bytes_of(subnet)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::optional<Served> served_;
  std::vector<std::vector<std::byte>> inputs_;
  std::map<Subnet, std::vector<std::vector<std::byte>>> outputs_;
};

TEST_P(ServedModel, GivesEachSubnetsOwnOutput) {
  const auto served = model();
  for (const PointToServe& point : served_->front) {
    served->activate(point.subnet);
    served->wait();
    const ServingStatus status = served->status();
    EXPECT_EQ(status.subnet, point.subnet);
    until_nothing_else_is_kept(*served, point.subnet);
    for (int input = 0; input < kInputs; ++input) {
      Ran ran;
      EXPECT_EQ(infer(*served, input, &ran), outputs_.at(point.subnet)[input]);
      EXPECT_EQ(ran.point, status.point);
      EXPECT_GT(ran.ms, 0);
    }
  }
  EXPECT_EQ(served->status().switches, served_->front.size() - 1);
}

TEST_P(ServedModel, TakesAnInputInEitherOrder) {
  const auto served = model();
  served->activate(subnet(1));
  served->wait();
  const Shape& shape = served->pack().graph().cuts().front().shape;
  std::vector<std::byte> last(inputs_[0].size()), output(served->output_bytes());
  const std::size_t channels = shape[1], pixels = shape[2] * shape[3];
  for (std::size_t channel = 0; channel < channels; ++channel) {
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      std::memcpy(&last[(pixel * channels + channel) * 4], &inputs_[0][(channel * pixels + pixel) * 4], 4);
    }
  }
  served->infer(last, Layout::kChannelsLast, output);
  EXPECT_EQ(output, outputs_.at(subnet(1))[0]);
}

TEST_P(ServedModel, NeverMixesSubnetsWhileItSwitches) {
  constexpr std::uint64_t kSwitches = 1000;
  const auto served = model();
  served->activate(subnet(0));
  served->wait();
  std::atomic<bool> done = false;
  std::uint64_t inferences = 0, wrong = 0;
  std::thread infers([&] {
    while (!done) {
      const int input = static_cast<int>(inferences++ % kInputs);
      Ran ran;
      const auto output = infer(*served, input, &ran);
      wrong += output != outputs_.at(subnet(ran.point))[input];
    }
  });
  for (std::uint64_t at = 1; served->status().switches < kSwitches; ++at) {
    // Subnets that share blocks with the one that runs, and such that do not; some are never waited for.
    served->activate(subnet(at * at * at % served_->front.size()));
    if (at % 5 != 0) served->wait();
  }
  done = true;
  infers.join();
  served->wait();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(inferences, 0u);
  const ServingStatus status = served->status();
  EXPECT_EQ(status.error, "");
  infer(*served, 0);
  until_nothing_else_is_kept(*served, status.subnet);
}

TEST_P(ServedModel, SeveralThreadsTakeTurns) {
  const auto served = model();
  served->activate(subnet(2));
  served->wait();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (int at = 0; at < 100; ++at) wrong += infer(*served, thread) != outputs_.at(subnet(2))[thread];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(ServedModel, TheControllerSwitches) {
  LoaderOptions options;
  options.budgets = Budgets{3};
  const auto served = model(options);
  served->wait();
  EXPECT_EQ(served->status().point, 2u) << "the best within 3 ms";
  served->set_budgets({1.5});
  served->wait();
  EXPECT_EQ(served->status().point, 0u);
  EXPECT_TRUE(says(served->status().why, "other budgets"));
  EXPECT_THROW(served->set_budgets({-1}), BudgetError);
  EXPECT_EQ(served->status().decisions, 2u);
  served->activate(subnet(4));
  served->wait();
  EXPECT_EQ(served->status().point, 4u) << "by name, whatever the budget";
  EXPECT_EQ(served->status().why, "it was asked for");
}

TEST_P(ServedModel, RefusesWhatDoesNotFit) {
  const auto served = model();
  std::vector<std::byte> output(served->output_bytes());
  EXPECT_TRUE(says(refusal<DeviceError>([&] { served->infer(inputs_[0], Layout::kContiguous, output); }),
                   "no subnet is active"));
  EXPECT_THROW(served->activate({"no such block"}), GraphError);
  const std::span<const std::byte> input(inputs_[0]);
  EXPECT_TRUE(says(refusal<DataError>([&] { served->infer(input.first(8), Layout::kContiguous, output); }),
                   "an input has 8 bytes; the pack's is float32 (1, 3, "));
  EXPECT_TRUE(says(refusal<DataError>([&] { served->infer(input, Layout::kContiguous, std::span(output).first(4)); }),
                   "an output has 4 bytes"));
}

INSTANTIATE_TEST_SUITE_P(WithEach, ServedModel, testing::ValuesIn(engines_to_test()), [](const auto& info) {
  return info.param == "fake, joined" ? std::string("fake_joined") : info.param;
});

}  // namespace
}  // namespace adaptivenet
