#include "engines/buffers.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <new>
#include <optional>
#include <set>
#include <thread>

namespace adaptivenet {
namespace {

TEST(Buffers, AreAlignedAndHaveRoomBehindThem) {
  const auto buffers = std::make_shared<Buffers>();
  for (const std::size_t bytes : {0, 1, 4, 63, 64, 65, 4000, 1605632}) {
    const Buffer buffer = buffers->take(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kAlignment, 0u) << bytes;
    std::memset(buffer.data(), 1, bytes + kRoom);  // which AddressSanitizer sees
  }
}

TEST(Buffers, ThatAreTooLargeAreRefused) {
  const auto buffers = std::make_shared<Buffers>();
  EXPECT_THROW(buffers->take(SIZE_MAX), std::bad_alloc);
  EXPECT_THROW(buffers->take(SIZE_MAX - kRoom), std::bad_alloc);
}

TEST(Buffers, GoRoundInAChain) {
  const auto buffers = std::make_shared<Buffers>();
  std::set<std::byte*> seen;
  std::optional<Buffer> read = buffers->take(100);
  for (int block = 0; block < 10; ++block) {
    Buffer written = buffers->take(100);
    EXPECT_NE(written.data(), read->data());
    seen.insert(written.data());
    read.reset();
    read.emplace(std::move(written));
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST(Buffers, ThatAreHeldAreNobodyElses) {
  const auto buffers = std::make_shared<Buffers>();
  std::vector<Buffer> held;
  for (int index = 0; index < 50; ++index) {
    held.push_back(buffers->take(64));
    std::memset(held.back().data(), index, 64);
    buffers->take(64);  // given back at once
  }
  for (int index = 0; index < 50; ++index) {
    for (int at = 0; at < 64; ++at) EXPECT_EQ(held[index].data()[at], static_cast<std::byte>(index));
  }
}

TEST(Buffers, OutliveWhatTheyWereTakenFrom) {
  auto buffers = std::make_shared<Buffers>();
  const std::weak_ptr<Buffers> there = buffers;
  std::optional<Buffer> buffer = buffers->take(64);
  buffers.reset();
  std::memset(buffer->data(), 1, 64);
  EXPECT_FALSE(there.expired());
  buffer.reset();
  EXPECT_TRUE(there.expired());
}

TEST(Buffers, MayBeGivenBackOnAnotherThread) {
  const auto buffers = std::make_shared<Buffers>();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 1000; ++round) {
        const Buffer buffer = buffers->take(32);
        std::memset(buffer.data(), thread, 32);
        for (int at = 0; at < 32; ++at) ASSERT_EQ(buffer.data()[at], static_cast<std::byte>(thread));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Buffers, OfAChainServeSmallerFeaturesToo) {
  const auto buffers = std::make_shared<Buffers>(Buffers::Fit::kAtLeast);
  const std::byte *large = nullptr, *small = nullptr;
  {
    const Buffer one = buffers->take(1000), other = buffers->take(100);
    large = one.data();
    small = other.data();
    EXPECT_NE(large, small);
  }
  const Buffer tiny = buffers->take(10);
  EXPECT_EQ(tiny.data(), small) << "the smallest that is large enough";
  const Buffer next = buffers->take(10);
  EXPECT_EQ(next.data(), large);
  EXPECT_NE(buffers->take(10).data(), large);
}

TEST(Buffers, OfAChainAreNoMoreThanItsFeaturesAtOneTime) {
  const auto buffers = std::make_shared<Buffers>(Buffers::Fit::kAtLeast);
  const auto chain = [&](std::initializer_list<std::size_t> sizes) {
    std::set<std::byte*> seen;
    std::optional<Buffer> read;
    for (const std::size_t bytes : sizes) {
      Buffer written = buffers->take(bytes);
      std::memset(written.data(), 1, bytes + kRoom);
      seen.insert(written.data());
      read.reset();
      read.emplace(std::move(written));
    }
    return seen;
  };
  EXPECT_EQ(chain({600, 1600, 800, 300}).size(), 3u) << "800 takes the place of 600";
  EXPECT_EQ(chain({600, 1600, 800, 300}).size(), 2u);
}

}  // namespace
}  // namespace adaptivenet
