// libadaptivenet as another program sees it: through its headers, and by what it leaves alone in the process.
#include <adaptivenet/model.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "allocations.h"
#include "engines/executorch_threads.h"
#include "folder.h"

namespace adaptivenet {
namespace {

const std::string kPack = TINY_PACK "/pack", kProfile = TINY_PACK "/executorch.json";

class Library : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(TINY_PACK "/stamp")) {
      GTEST_SKIP() << "there is no pack in " TINY_PACK ": make one with tests/runner_pack.py";
    }
  }

  static ServedModel open(adaptivenet_options options = {}, adaptivenet_budgets budgets = {1000, 0, 0, 0}) {
    if (options.threads == 0) options.threads = 1;  // the profile's
    return ServedModel::open(kPack, kProfile, budgets, options);
  }

  // The first field of this name in the profile, with its value.
  static std::string field(const std::string& name) {
    std::stringstream text;
    text << std::ifstream(kProfile).rdbuf();
    const std::string profile = text.str();
    const std::size_t begin = profile.find("\"" + name + "\":");
    return profile.substr(begin, profile.find_first_of(",}\n", begin) - begin);
  }

  // What is said of the profile when these words in it are others.
  static std::string refused(const std::string& words, const std::string& others, adaptivenet_options options = {}) {
    if (options.threads == 0 && options.of_another_device == 0) options.threads = 1;
    std::stringstream text;
    text << std::ifstream(kProfile).rdbuf();
    std::string profile = text.str();
    profile.replace(profile.find(words), words.size(), others);
    const Folder folder;
    try {
      ServedModel::open(kPack, folder.write("profile.json", profile).string(), {1000, 0, 0, 0}, options);
    } catch (const ModelError& error) {
      EXPECT_EQ(error.code(), ADAPTIVENET_BAD_PROFILE);
      EXPECT_STREQ(error.what(), adaptivenet_last_error());
      return error.what();
    }
    return "";
  }
};

TEST_F(Library, TellsOfWhatItTakesAndGives) {
  const ServedModel model = open();
  const adaptivenet_tensor input = model.input(), output = model.output();
  EXPECT_STREQ(input.dtype, "float32");
  EXPECT_EQ(std::vector<std::int64_t>(input.shape, input.shape + input.rank),
            (std::vector<std::int64_t>{1, 3, 16, 16}));
  EXPECT_EQ(input.bytes, 4u * 3 * 16 * 16);
  EXPECT_EQ(std::vector<std::int64_t>(output.shape, output.shape + output.rank), (std::vector<std::int64_t>{1, 5}));
  EXPECT_EQ(model.points(), 3u) << "the two that are no better than a faster one are no points";
  EXPECT_EQ(model.point_ms(2), 3);
  EXPECT_EQ(model.point_ms(3), 0);
  EXPECT_EQ(model.whole_ms(), 5);
}

TEST_F(Library, ServesUnderABudgetAndByName) {
  ServedModel model = open({}, {2.5, 0, 0, 0});
  EXPECT_EQ(model.status().point, 1);
  std::vector<float> input(3 * 16 * 16, 0.5f), output(5), other(5);
  EXPECT_EQ(model.infer(input, output).point, 1);
  model.set_budget(1.5);
  model.wait();
  EXPECT_EQ(model.infer(input, other).point, 0);
  EXPECT_NE(output, other);
  model.activate({"b0-p50", "b1-p50", "b2"});
  model.wait();
  EXPECT_EQ(model.infer(input, other, ADAPTIVENET_NHWC).point, 1);
  EXPECT_EQ(output, other) << "all values of this input are the same, in either order";
  model.activate({"b0", "b1", "b2"});
  model.wait();
  EXPECT_EQ(model.infer(input, other).point, -1);
  EXPECT_EQ(model.status().point, -1);
  EXPECT_STREQ(model.status().why, "it was asked for");
  EXPECT_STREQ(model.status().error, "");
}

TEST_F(Library, HeedsWhatPointsTakeOfMemoryAndEnergy) {
  const auto serving = [](double memory_mb, double energy_mj) {
    return open({}, {1000, 0, memory_mb, energy_mj}).status().point;
  };
  EXPECT_EQ(serving(0, 0), 2);
  EXPECT_EQ(serving(3.4, 0), 1) << "the third takes 3.5 MB";
  EXPECT_EQ(serving(3.5, 0), 2);
  EXPECT_EQ(serving(3.4, 7.9), 0) << "the second takes 8 mJ, and what the first takes is not known";
  EXPECT_EQ(serving(0, 7.9), 2);
  for (const char* cost : {"-1", "true", "\"1.5\"", "[]"}) {
    EXPECT_NE(
        refused(field("resident_mb"), std::string("\"resident_mb\": ") + cost).find("the resident_mb of a subnet"),
        std::string::npos);
  }
  EXPECT_EQ(refused(field("resident_mb"), "\"resident_mb\": null"), "");
  EXPECT_EQ(refused(field("resident_mb") + ",", ""), "") << "as in profiles of earlier toolkits";
}

TEST_F(Library, HeedsSignals) {
  ServedModel model = open();
  const std::int64_t before = model.status().point;
  adaptivenet_signals signals = adaptivenet_no_signals();
  model.observe(signals);
  // A sensor that lives and says that the processor throttles.
  for (int at = 0; at < 4; ++at) {
    signals.headroom = 1.0 + 0.01 * at;
    model.observe(signals);
  }
  model.set_budget(999);
  model.wait();
  EXPECT_LT(model.status().point, before);
}

TEST_F(Library, RefusesAProfileOfSomethingElse) {
  EXPECT_NE(refused("\"digest\": \"", "\"digest\": \"0").find("was made for another pack"), std::string::npos);
  EXPECT_NE(refused("\"executorch\"", "\"onnxruntime\"", {0, "executorch", 0, 0, nullptr, 0, 0})
                .find("the engine 'onnxruntime', not 'executorch'"),
            std::string::npos);
  EXPECT_NE(refused("\"threads\": 1", "\"threads\": 4", {0, nullptr, 1, 0, nullptr, 0, 0}).find("4 threads, not 1"),
            std::string::npos);
  EXPECT_EQ(refused("\"threads\": 1", "\"threads\": 4", {0, nullptr, 1, 0, nullptr, 0, 1}), "") << "as it was told to";
  EXPECT_NE(refused("\"version\": 2", "\"version\": 3").find("has version 3"), std::string::npos);
  EXPECT_NE(refused("adaptivenet-profile", "something").find("is not a profile"), std::string::npos);
  EXPECT_NE(refused("\"front\"", "\"back\"").find("is damaged"), std::string::npos);
}

TEST_F(Library, RefusesAProfileWithWhatCannotBe) {
  const std::string pack = field("digest");
  EXPECT_NE(refused(pack, "\"digest\": \"\"").find("was made for another pack"), std::string::npos);
  for (const char* threads : {"1e300", "-1", "0", "true", "1.5", "4294967297"}) {
    EXPECT_NE(refused(field("threads"), std::string("\"threads\": ") + threads).find("threads"), std::string::npos);
  }
  for (const char* ms : {"0", "-2.5"}) {
    EXPECT_NE(refused(field("median_ms"), std::string("\"median_ms\": ") + ms).find("a subnet takes "),
              std::string::npos);
    EXPECT_NE(refused(field("measured_ms"), std::string("\"measured_ms\": ") + ms).find("a subnet takes "),
              std::string::npos);
  }
  EXPECT_NE(refused("\"b2\"", "\"b99\"").find("is damaged: there is no block"), std::string::npos);
}

TEST_F(Library, TellsWhatIsWrongWithACall) {
  const adaptivenet_budgets budgets = {1000, 0, 0, 0}, none = {-1, 0, 0, 0};
  adaptivenet_model* model = nullptr;
  adaptivenet_options options = {};
  options.size = sizeof options;
  options.threads = 1;
  EXPECT_EQ(adaptivenet_open(nullptr, kProfile.c_str(), &budgets, nullptr, &model), ADAPTIVENET_BAD_ARGUMENT);
  EXPECT_STREQ(adaptivenet_last_error(), "pack_folder is null");
  EXPECT_EQ(adaptivenet_open("/nowhere", kProfile.c_str(), &budgets, nullptr, &model), ADAPTIVENET_BAD_PACK);
  EXPECT_EQ(adaptivenet_open(kPack.c_str(), "/nowhere", &budgets, nullptr, &model), ADAPTIVENET_BAD_PROFILE);
  EXPECT_EQ(adaptivenet_open(kPack.c_str(), kProfile.c_str(), &none, nullptr, &model), ADAPTIVENET_BAD_BUDGET);
  EXPECT_EQ(model, nullptr);
  ASSERT_EQ(adaptivenet_open(kPack.c_str(), kProfile.c_str(), &budgets, &options, &model), ADAPTIVENET_OK);
  char input[3 * 16 * 16 * 4] = {}, output[20];
  EXPECT_EQ(adaptivenet_infer(model, input, 8, ADAPTIVENET_NCHW, output, 20, ADAPTIVENET_NCHW, nullptr),
            ADAPTIVENET_BAD_ARGUMENT);
  EXPECT_NE(std::strstr(adaptivenet_last_error(), "an input has 8 bytes"), nullptr);
  EXPECT_EQ(adaptivenet_infer(model, input, sizeof input, ADAPTIVENET_NCHW, output, 20, ADAPTIVENET_NCHW, nullptr),
            ADAPTIVENET_OK);
  for (const int order : {-1, 2, 77}) {
    const auto wrong = static_cast<adaptivenet_order>(order);
    const std::string said = "order must be ADAPTIVENET_NCHW or ADAPTIVENET_NHWC: got " + std::to_string(order);
    EXPECT_EQ(adaptivenet_infer(model, input, sizeof input, wrong, output, 20, ADAPTIVENET_NCHW, nullptr),
              ADAPTIVENET_BAD_ARGUMENT);
    EXPECT_EQ(adaptivenet_last_error(), "input_" + said);
    EXPECT_EQ(adaptivenet_infer(model, input, sizeof input, ADAPTIVENET_NCHW, output, 20, wrong, nullptr),
              ADAPTIVENET_BAD_ARGUMENT);
    EXPECT_EQ(adaptivenet_last_error(), "output_" + said);
  }
  EXPECT_EQ(adaptivenet_activate(model, 3), ADAPTIVENET_BAD_ARGUMENT);
  EXPECT_STREQ(adaptivenet_last_error(), "there is no point 3: the model has 3");
  EXPECT_EQ(adaptivenet_infer(nullptr, input, 8, ADAPTIVENET_NCHW, output, 20, ADAPTIVENET_NCHW, nullptr),
            ADAPTIVENET_BAD_ARGUMENT);
  adaptivenet_close(model);
  adaptivenet_close(nullptr);
}

TEST_F(Library, NamesAnEngineThatItDoesNotHave) {
  for (const int of_another_device : {0, 1}) {
    adaptivenet_options options = {};
    options.of_another_device = of_another_device;
    options.engine = "tvm";
    try {
      open(options);
      FAIL() << "there is no such engine";
    } catch (const ModelError& error) {
      EXPECT_EQ(error.code(), ADAPTIVENET_BAD_ARGUMENT);
      EXPECT_NE(std::string(error.what()).find("options.engine is 'tvm'; this library has: executorch"),
                std::string::npos);
    }
    options.engine = nullptr;
    EXPECT_NE(refused("\"executorch\"", "\"tvm\"", options).find("made with the engine 'tvm'; this library has:"),
              std::string::npos);
  }
}

TEST_F(Library, TakesSeveralInputsByName) {
  adaptivenet_options options = {};
  options.threads = 1;
  ServedModel model = ServedModel::open(TINY_PACK "/row", TINY_PACK "/row.json", {1000, 0, 0, 0}, options);
  ASSERT_EQ(model.inputs(), 3u);
  EXPECT_EQ(open().inputs(), 0u);
  const auto [name, form] = model.input(1);
  EXPECT_EQ(name, "mask");
  EXPECT_STREQ(form.dtype, "bool");
  EXPECT_EQ(std::vector<std::int64_t>(form.shape, form.shape + form.rank), (std::vector<std::int64_t>{1}));
  EXPECT_STREQ(model.input(0).second.dtype, "int64");
  EXPECT_THROW(model.input(3), ModelError);
  EXPECT_STREQ(adaptivenet_last_error(), "there is no input 3: the pack names 3");

  const std::vector<std::int64_t> ids = {3, 0, 7, 1};
  const std::array<bool, 1> mask = {true};
  const float pixels[] = {0.5f, -1, 2, 0, 0, 0.25f};
  const adaptivenet_values others = {"pixels", "float32", pixels, 6};
  std::vector<float> row(11), output(2);
  const std::size_t before = allocations_of_this_thread();
  model.write_row({others, values("ids", ids), values("mask", mask)}, row);
  EXPECT_EQ(allocations_of_this_thread(), before);
  EXPECT_EQ(row, (std::vector<float>{3, 0, 7, 1, 1, 0.5f, -1, 2, 0, 0, 0.25f}));
  model.infer(row, output);
  EXPECT_NEAR(output[0], 13.75, 1e-5) << "the sum of all";
  EXPECT_NEAR(output[1], 34, 1e-5) << "the sum of each times its place";

  const auto refused = [&](std::initializer_list<adaptivenet_values> given, std::size_t size = 11) {
    row.resize(size);
    try {
      model.write_row(given, row);
    } catch (const ModelError& error) {
      EXPECT_EQ(error.code(), ADAPTIVENET_BAD_ARGUMENT);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_EQ(refused({others, values("ids", ids)}),
            "the row has no array 'mask', which the network reads; it holds ids, pixels");
  EXPECT_EQ(refused({others, values("ids", ids), values("mask", ids)}),
            "the row: 'mask' must have shape (N), not (1, 4)");
  EXPECT_EQ(refused({{"ids", "int8", ids.data(), 4}}),
            "values.dtype is 'int8'; it must be float32, int64, int32 or bool");
  EXPECT_EQ(refused({{nullptr, "int64", ids.data(), 4}}), "values.name is null");
  EXPECT_EQ(refused({{"ids", "int64", nullptr, 4}}), "values.values is null");
  EXPECT_EQ(refused({others}, 10), "a row has 40 bytes; the pack's is float32 (1, 11), 44 bytes");
  try {
    std::vector<float> picture(3 * 16 * 16);
    open().write_row({others}, picture);
    FAIL() << "its pack names no inputs";
  } catch (const ModelError& error) {
    EXPECT_NE(std::string(error.what()).find("the network has one input"), std::string::npos);
  }
}

TEST_F(Library, SeveralModelsServeAtATime) {
  const std::vector<float> input(3 * 16 * 16, 0.5f);
  adaptivenet_options options = {};
  options.of_another_device = 1;  // the process's pool of threads stays as it is
  std::vector<ServedModel> models;
  for (int at = 0; at < 3; ++at) models.push_back(ServedModel::open(kPack, kProfile, {1000, 0, 0, 0}, options));
  std::vector<std::vector<float>> expected(models.front().points(), std::vector<float>(5));
  for (std::size_t point = 0; point < expected.size(); ++point) {
    models.front().activate(point);
    models.front().wait();
    models.front().infer(input, expected[point]);
  }
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (ServedModel& model : models) {
    threads.emplace_back([&] {
      std::vector<float> output(5);
      for (std::size_t at = 0; at < 100; ++at) {
        model.activate(at % expected.size());
        const auto point = static_cast<std::size_t>(model.infer(input, output).point);
        for (std::size_t place = 0; place < output.size(); ++place) {
          wrong += std::abs(output[place] - expected[point][place]) > 1e-5f;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Library, TakesAndGivesPicturesInEitherOrder) {
  constexpr std::size_t kGiven = 3, kMade = 2, kPixels = 6 * 4;
  std::vector<float> input(kGiven * kPixels), turned(input.size());
  for (std::size_t at = 0; at < input.size(); ++at) {
    input[at] = static_cast<float>(at * 37 % 101) / 50 - 1;
    turned[at % kPixels * kGiven + at / kPixels] = input[at];
  }
  std::map<std::string, std::vector<float>> outputs;  // by the block, of the first engine
  for (const char* engine : {"executorch", "onnxruntime"}) {
    adaptivenet_options options = {};
    options.engine = engine;
    options.threads = options.of_another_device = 1;
    try {
      ServedModel model = ServedModel::open(TINY_PACK "/picture", TINY_PACK "/picture.json", {1000, 0, 0, 0}, options);
      for (const char* block : {"b0", "b0-p50"}) {  // on ExecuTorch they come in different orders
        model.activate(std::vector<std::string>{block});
        model.wait();
        std::vector<float> output(kMade * kPixels), other(output.size());
        model.infer(input, output);
        const std::vector<float>& expected = outputs.try_emplace(block, output).first->second;
        for (std::size_t at = 0; at < output.size(); ++at) EXPECT_NEAR(output[at], expected[at], 1e-5);
        model.infer(turned, other, ADAPTIVENET_NHWC, ADAPTIVENET_NHWC);
        for (std::size_t at = 0; at < output.size(); ++at) {
          EXPECT_EQ(other[at % kPixels * kMade + at / kPixels], output[at]) << engine << ", " << block << ", " << at;
        }
        model.infer(turned, other, ADAPTIVENET_NHWC);
        EXPECT_EQ(other, output);
      }
    } catch (const ModelError& error) {
      EXPECT_EQ(error.code(), ADAPTIVENET_BAD_ARGUMENT) << error.what();
      EXPECT_STREQ(engine, "onnxruntime") << "a build may lack it";
    }
  }
}

TEST_F(Library, OpensAPackWithinAnotherFile) {
  const std::vector<float> input(3 * 16 * 16, 0.25f);
  std::vector<float> expected(5), output(5);
  open({}, {2.5, 0, 0, 0}).infer(input, expected);
  std::stringstream profile;
  profile << std::ifstream(kProfile).rdbuf();
  const Folder folder;
  const std::string tar = (folder.path() / "pack.tar").string();
  ASSERT_EQ(std::system(("tar --format=ustar -cf " + tar + " -C " + kPack + " manifest.json blobs").c_str()), 0);
  std::stringstream archive;
  archive << std::ifstream(tar).rdbuf();
  const auto length = static_cast<std::int64_t>(archive.str().size());
  for (const char* engine : {"executorch", "onnxruntime"}) {
    for (const std::int64_t offset : {0, 1, 4, 64, 4097}) {
      const std::string file =
          folder.write("app.apk", std::string(static_cast<std::size_t>(offset), '?') + archive.str() + "and more");
      const int descriptor = ::open(file.c_str(), O_RDONLY);
      adaptivenet_options options = {};
      options.threads = 1;
      options.of_another_device = 1;
      options.engine = engine;
      try {
        ServedModel model = ServedModel::open(descriptor, offset, length, profile.str(), {2.5, 0, 0, 0}, options);
        ::close(descriptor);
        model.infer(input, output);
        for (std::size_t at = 0; at < output.size(); ++at) EXPECT_NEAR(output[at], expected[at], 1e-5);
        model.activate(0);
        model.wait();
      } catch (const ModelError& error) {
        EXPECT_EQ(error.code(), ADAPTIVENET_BAD_ARGUMENT) << error.what();
        EXPECT_STREQ(engine, "onnxruntime") << "a build may lack it";
      }
    }
  }
  const int descriptor = ::open(tar.c_str(), O_RDONLY);
  for (const auto& [offset, bytes] :
       {std::pair<std::int64_t, std::int64_t>{-1, length}, {0, -1}, {1, length}, {length + 1, 0}, {0, length + 1}}) {
    EXPECT_THROW(ServedModel::open(descriptor, offset, bytes, profile.str(), {2.5, 0, 0, 0}), ModelError);
    EXPECT_NE(std::strstr(adaptivenet_last_error(), "in the pack's file, which has"), nullptr);
  }
  ::close(descriptor);
  EXPECT_THROW(ServedModel::open(descriptor, 0, length, profile.str(), {2.5, 0, 0, 0}), ModelError);
  EXPECT_NE(std::strstr(adaptivenet_last_error(), "the pack's file cannot be read"), nullptr);
}

TEST_F(Library, TakesTheSmallestMemoryLimitForOne) {
  try {
    open({sizeof(adaptivenet_options), nullptr, 0, 1e-9, nullptr, 0, 0});
    FAIL() << "no subnet fits";
  } catch (const ModelError& error) {
    EXPECT_EQ(error.code(), ADAPTIVENET_FAILED);
    EXPECT_NE(std::string(error.what()).find("the limit is"), std::string::npos);
  }
}

TEST_F(Library, LeavesThePoolOfThreadsAndTheSignalsAlone) {
  auto* pool = executorch::extension::threadpool::get_threadpool();
  ASSERT_TRUE(pool->_unsafe_reset_threadpool(3));
  try {
    ServedModel::open(kPack, kProfile, {1000, 0, 0, 0});
    FAIL() << "the profile was made with one thread";
  } catch (const ModelError& error) {
    EXPECT_EQ(error.code(), ADAPTIVENET_BAD_PROFILE);
    EXPECT_NE(std::string(error.what()).find("with 1 threads, not 3"), std::string::npos) << error.what();
  }
  struct sigaction before[32] = {};
  for (int signal = 1; signal < 32; ++signal) sigaction(signal, nullptr, &before[signal]);
  adaptivenet_options options = {};
  options.of_another_device = 1;
  ServedModel model = ServedModel::open(kPack, kProfile, {1000, 0, 0, 0}, options);
  std::vector<float> input(3 * 16 * 16), output(5);
  model.infer(input, output);
  EXPECT_EQ(pool->get_thread_count(), 3u);
  for (int signal = 1; signal < 32; ++signal) {
    struct sigaction after{};
    sigaction(signal, nullptr, &after);
    EXPECT_EQ(after.sa_handler, before[signal].sa_handler) << "signal " << signal;
  }
}

TEST_F(Library, AllocatesNothingPerInference) {
  adaptivenet_options options = {};
  options.threads = 1;
  ServedModel model = open(options);
  model.activate(1);  // by name: the controller is not asked, and its thread is another one
  model.wait();
  std::vector<float> input(3 * 16 * 16), output(5);
  // Soon after a switch the blocks are loaded once more, into one workspace: their next inference is a first one.
  std::size_t allocated = 1;
  for (int round = 0; round < 100 && allocated > 0; ++round) {
    const std::size_t before = allocations_of_this_thread();
    for (int at = 0; at < 100; ++at) model.infer(input, output, at % 2 ? ADAPTIVENET_NHWC : ADAPTIVENET_NCHW);
    allocated = allocations_of_this_thread() - before;
  }
  EXPECT_EQ(allocated, 0u);
}

}  // namespace
}  // namespace adaptivenet
