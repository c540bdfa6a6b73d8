// Packs in one file: what tar writes is read, and what somebody has changed is refused or is the same pack.
#include "core/archive.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <random>
#include <sstream>

#include "core/error.h"
#include "core/pack.h"
#include "fake_engine.h"
#include "folder.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

constexpr std::size_t kBlock = 512;
const std::string kBlob = "blobs/" + std::string(64, 'a') + ".pte";

void write_octal(std::string& header, std::size_t at, std::size_t digits, std::uint64_t value) {
  for (std::size_t digit = digits; digit-- > 0; value /= 8) header[at + digit] = static_cast<char>('0' + value % 8);
}

std::string summed(std::string header) {
  header.replace(148, 8, 8, ' ');
  std::uint64_t sum = 0;
  for (const char byte : header) sum += static_cast<unsigned char>(byte);
  write_octal(header, 148, 6, sum);
  header[154] = '\0';
  return header;
}

std::string header(const std::string& name, std::uint64_t bytes, char type = '0') {
  std::string made(kBlock, '\0');
  made.replace(0, name.size(), name);
  write_octal(made, 124, 11, bytes);
  made[156] = type;
  made.replace(257, 8,
               std::string("ustar\0"
                           "00",
                           8));
  return summed(made);
}

std::string entry(const std::string& name, const std::string& content, char type = '0') {
  return header(name, content.size(), type) + content + std::string((kBlock - content.size() % kBlock) % kBlock, '\0');
}

const std::string kEnd(2 * kBlock, '\0');

class ArchiveTest : public testing::Test {
 protected:
  ArchivePtr open(const std::string& bytes) { return open(bytes, 0, static_cast<std::int64_t>(bytes.size())); }
  ArchivePtr open(const std::string& bytes, std::int64_t offset, std::int64_t length) {
    const int descriptor = ::open(folder_.write("pack.tar", bytes).c_str(), O_RDONLY);
    struct Close {
      ~Close() { ::close(descriptor); }
      int descriptor;
    } closes{descriptor};
    return std::make_shared<const Archive>(descriptor, offset, length);
  }
  std::string refused(const std::string& bytes) {
    return refusal<PackError>([&] { open(bytes); });
  }

  static std::string text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }

  Folder folder_;
};

TEST_F(ArchiveTest, HasTheFilesOfAPack) {
  const std::string content(1000, 'x');
  const std::string tar = entry("manifest.json", "{}") + entry("blobs/", "", '5') + entry(kBlob, content) + kEnd;
  for (const std::size_t offset : {0u, 1u, 700u, 4096u, 5000u}) {
    const ArchivePtr archive = open(std::string(offset, '!') + tar + "more", static_cast<std::int64_t>(offset),
                                    static_cast<std::int64_t>(tar.size()));
    EXPECT_EQ(archive->read_text("manifest.json", 2), "{}");
    EXPECT_TRUE(says(refusal<PackError>([&] { archive->read_text("manifest.json", 1); }), "more than 1 bytes"));
    EXPECT_TRUE(says(refusal<PackError>([&] { archive->map("blobs/other"); }), "blobs/other is missing"));
    MappedFile file = archive->map(kBlob);
    EXPECT_EQ(text_of(file), content);
    file.align(64);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.bytes().data()) % 64, 0u);
    file.leave_memory();
    EXPECT_EQ(text_of(file), content) << "also of a copy";
    const MappedFile moved = std::move(file);
    EXPECT_EQ(text_of(moved), content);
  }
}

TEST_F(ArchiveTest, ReadsWhatTarWritesInEitherOfItsFormats) {
  const Folder folder;
  const Pack pack = write_fake_pack(folder.path() / "a pack");
  for (const std::string format : {"ustar", "gnu"}) {
    for (const std::string what : {"manifest.json blobs", "."}) {
      const std::string tar = (folder.path() / "pack.tar").string();
      const std::string command =
          "tar --format=" + format + " -cf " + tar + " -C '" + (folder.path() / "a pack").string() + "' " + what;
      ASSERT_EQ(std::system(command.c_str()), 0);
      std::stringstream bytes;
      bytes << std::ifstream(tar).rdbuf();
      const Pack archived = Pack::open(open(bytes.str()));
      EXPECT_EQ(archived.digest(), pack.digest());
      for (const char* block : {"o0", "o1", "o2", "o3", "p0", "m1", "m3"}) {
        const Artifact& artifact = pack.block_artifact(block, "onnx");
        EXPECT_EQ(text_of(archived.read(artifact)), text_of(pack.read(artifact)));
      }
      EXPECT_TRUE(says(refusal<PackError>([&] { archived.read(pack.metric_artifact("top1", "onnx")); }), "is missing"));
    }
  }
}

TEST_F(ArchiveTest, RefusesWhatNoTarWouldWriteOfAPack) {
  const std::string manifest = entry("manifest.json", "{}");
  EXPECT_TRUE(says(refused(""), "is cut off"));
  EXPECT_TRUE(says(refused(std::string(511, 'x')), "is cut off"));
  EXPECT_TRUE(says(refused(std::string(10240, 'x')), "is damaged at byte 0, or is no tar archive"));
  EXPECT_TRUE(says(refused(manifest), "is cut off"));
  EXPECT_TRUE(says(refused(manifest + manifest + kEnd), "has manifest.json twice"));
  EXPECT_TRUE(says(refused(manifest + entry("./manifest.json", "{}") + kEnd), "has manifest.json twice"));
  EXPECT_TRUE(says(refused(manifest + kEnd + "x"), "goes on after its end"));
  EXPECT_TRUE(says(refused(manifest + kEnd + manifest + kEnd), "goes on after its end"));
  EXPECT_TRUE(says(refused(manifest + std::string(std::size_t{2} << 20, '\0')), "goes on after its end"));
  for (const std::uint64_t bytes : {1025ull, 2000ull, 07777777777ull, 077777777777ull}) {
    EXPECT_TRUE(says(refused(header("manifest.json", bytes) + kEnd), "ends before the end of manifest.json"));
  }
  for (const std::string name :
       {"../manifest.json", "/manifest.json", "blobs/../manifest.json", "manifest.json/", "Manifest.json", "blobs",
        "blobs/x.pte", "././manifest.json", ".//manifest.json", "x", "", "manifest.json\n"}) {
    EXPECT_TRUE(says(refused(entry(name, "{}") + kEnd), "is no file of a pack")) << name;
  }
  for (const char type : {'1', '2', '3', '4', '5', '6', '7', 'g', 'x', 'L', 'S', '\x80'}) {
    EXPECT_TRUE(says(refused(entry("manifest.json", "{}", type) + kEnd), "which is no file")) << type;
  }
  std::string prefixed = header("manifest.json", 2);
  prefixed[345] = '.';
  EXPECT_TRUE(says(refused(summed(prefixed) + kEnd), "is no file of a pack"));
  for (const std::string size : {"", "00000000009", "0x000000002", "-0000000002", "2 2", "\x80\x01"}) {
    std::string wrong = header("manifest.json", 2);
    wrong.replace(124, 12, size + std::string(12 - size.size(), '\0'));
    EXPECT_TRUE(says(refused(summed(wrong) + kEnd), "whose size is no number")) << size;
  }
  std::string old = header("manifest.json", 2);
  old.replace(257, 8, 8, '\0');
  EXPECT_TRUE(says(refused(summed(old) + kEnd), "not of the format ustar"));
}

TEST_F(ArchiveTest, WhateverIsChangedInItIsRefusedOrIsTheSamePack) {
  const Folder folder;
  const Pack pack = write_fake_pack(folder.path() / "pack");
  std::string tar = entry("manifest.json", [&] {
    std::stringstream text;
    text << std::ifstream(folder.path() / "pack" / "manifest.json").rdbuf();
    return text.str();
  }());
  std::vector<std::size_t> headers{0};
  const char* const blocks[] = {"o0", "o1", "o2", "o3", "p0", "m1", "m3"};
  for (const char* block : blocks) {
    const Artifact& artifact = pack.block_artifact(block, "onnx");
    headers.push_back(tar.size());
    tar += entry(artifact.file, text_of(pack.read(artifact)));
  }
  tar += kEnd;
  std::mt19937 random(0);
  const auto below = [&](std::size_t count) { return random() % count; };
  int opened = 0;
  for (int time = 0; time < 2000; ++time) {
    std::string changed = tar;
    const std::size_t at = headers[below(headers.size())];
    switch (below(5)) {
      case 0:  // any byte
        changed[below(changed.size())] = static_cast<char>(below(256));
        break;
      case 1:  // a byte of a header, whose sum is right again
        changed[at + below(kBlock)] = static_cast<char>(below(256));
        changed.replace(at, kBlock, summed(changed.substr(at, kBlock)));
        break;
      case 2: {  // another size
        std::string wrong = changed.substr(at, kBlock);
        write_octal(wrong, 124, 11, below(2) != 0 ? below(1 << 20) : std::uint64_t{random()} << below(3));
        changed.replace(at, kBlock, summed(wrong));
        break;
      }
      case 3:  // cut, or longer
        changed.resize(below(2) != 0 ? below(changed.size()) : changed.size() + below(5000), '\0');
        break;
      default: {  // a piece of it elsewhere
        const std::size_t bytes = below(4 * kBlock), from = below(changed.size() - bytes);
        changed.replace(below(changed.size() - bytes), bytes, tar, from, bytes);
      }
    }
    try {
      const Pack found = Pack::open(open(changed));
      ASSERT_EQ(found.digest(), pack.digest());
      for (const char* block : blocks) {
        const Artifact& artifact = pack.block_artifact(block, "onnx");
        ASSERT_EQ(text_of(found.read(artifact)), text_of(pack.read(artifact)));
      }
      ++opened;
    } catch (const PackError& error) {
      ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      ASSERT_LT(std::strlen(error.what()), 500u);
    }
  }
  EXPECT_GT(opened, 20) << "such as with other times";
}

}  // namespace
}  // namespace adaptivenet
