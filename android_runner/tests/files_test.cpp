#include "core/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "folder.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// What both ways of opening a file refuse it with.
std::string refused(const std::filesystem::path& path) {
  const std::string message = refusal<std::runtime_error>([&] { MappedFile file(path); });
  EXPECT_EQ(refusal<std::runtime_error>([&] { read_text(path, 1000); }), message);
  EXPECT_TRUE(says(message, (path.filename().string())));
  return message;
}

TEST(Files, AreReadWhole) {
  const Folder folder;
  const auto path = folder.write("a", std::string("some\0text", 9));
  EXPECT_EQ(text_of(MappedFile(path)), std::string("some\0text", 9));
  EXPECT_EQ(read_text(path, 9), std::string("some\0text", 9));
  const auto large = folder.write("large", std::string(300000, 'x'));
  EXPECT_EQ(MappedFile(large).bytes().size(), 300000u);
  EXPECT_EQ(read_text(large, 1 << 20), std::string(300000, 'x'));
}

TEST(Files, MayBeEmpty) {
  const Folder folder;
  const auto path = folder.write("a", "");
  EXPECT_TRUE(MappedFile(path).bytes().empty());
  EXPECT_EQ(read_text(path, 0), "");
  EXPECT_TRUE(MappedFile().bytes().empty());
}

TEST(Files, StayMappedWhenMoved) {
  const Folder folder;
  MappedFile first(folder.write("a", "one"));
  const std::byte* data = first.bytes().data();
  MappedFile second(std::move(first));
  EXPECT_EQ(second.bytes().data(), data);
  second = MappedFile(folder.write("b", "other"));
  EXPECT_EQ(text_of(second), "other");
  MappedFile third;
  third = std::move(second);
  EXPECT_EQ(text_of(third), "other");
}

TEST(Files, KeepTheirBytesWhenTheyLeaveMemory) {
  const Folder folder;
  const MappedFile file(folder.write("a", std::string(300000, 'x')));
  file.leave_memory();
  EXPECT_EQ(text_of(file), std::string(300000, 'x'));
  MappedFile().leave_memory();
}

TEST(Files, ArePlainFiles) {
  const Folder folder;
  const auto target = folder.write("target", "secret");
  std::filesystem::create_symlink(target, folder.path() / "link");
  std::filesystem::create_symlink(folder.path() / "nothing", folder.path() / "dangling");
  EXPECT_TRUE(says(refused(folder.path() / "link"), "is a symbolic link"));
  EXPECT_TRUE(says(refused(folder.path() / "dangling"), "is a symbolic link"));
  EXPECT_TRUE(says(refused(folder.path() / "missing"), "is missing"));
  EXPECT_TRUE(says(refused(folder.path()), "is not a regular file"));
  EXPECT_TRUE(says(refused("/dev/zero"), "is not a regular file"));
  EXPECT_TRUE(says(refused(target / "x"), "cannot be read"));
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(says(refused(folder.path() / "pipe"), "is not a regular file"));  // and does not wait for a writer
}

TEST(Files, AreNotReadBeyondTheLimit) {
  const Folder folder;
  const auto path = folder.write("a", "12345");
  EXPECT_EQ(read_text(path, 5), "12345");
  EXPECT_TRUE(says(refusal<std::runtime_error>([&] { read_text(path, 4); }), "has more than 4 bytes"));
  std::filesystem::resize_file(path,
                               std::uintmax_t{1} << 40);  // a hole: takes no room on the disk, must take none here
  EXPECT_TRUE(says(refusal<std::runtime_error>([&] { read_text(path, 1 << 20); }), "has more than 1048576 bytes"));
}

TEST(Files, AreReadByTheirBytesAndNotByTheirSize) {
  EXPECT_EQ(std::filesystem::file_size("/proc/self/comm"), 0u);
  EXPECT_FALSE(read_text("/proc/self/comm", 1000).empty());
}

TEST(Files, DoNotStayOpen) {
  const Folder folder;
  const auto path = folder.write("a", "text");
  for (int time = 0; time < 5000; ++time) {
    MappedFile file(path);
    read_text(path, 4);
    EXPECT_THROW(MappedFile(folder.path()), std::runtime_error);
  }
}

}  // namespace
}  // namespace adaptivenet
