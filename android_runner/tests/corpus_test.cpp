// Every input that fuzzing found worth keeping goes through the entry of its target.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/files.h"
#include "entries.h"

namespace adaptivenet {
namespace {

TEST(Corpus, GoesThroughItsTargets) {
  for (const auto& [name, entry] : fuzz_entries()) {
    for (const std::filesystem::path corpus : {RUNNER_CORPUS, RUNNER_FOUND}) {
      int inputs = 0;
      for (const auto& file : std::filesystem::directory_iterator(corpus / name)) {
        EXPECT_NO_THROW(entry(MappedFile(file.path()).bytes())) << file.path();
        ++inputs;
      }
      EXPECT_GT(inputs, 0) << corpus / name;
    }
  }
}

}  // namespace
}  // namespace adaptivenet
