#include "daemon/run_folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "daemon/sockets.h"
#include "folder.h"

namespace adaptivenet {
namespace {

TEST(RunFolder, IsPrivateAndItsLockIsTakenOnce) {
  const Folder home;
  RunFolder folder(home.path());
  EXPECT_EQ(std::filesystem::status(home.path() / "run").permissions(), std::filesystem::perms::owner_all);
  std::filesystem::permissions(home.path() / "run", std::filesystem::perms(0755));
  RunFolder second(home.path());
  EXPECT_EQ(std::filesystem::status(home.path() / "run").permissions(), std::filesystem::perms::owner_all);
  EXPECT_TRUE(folder.lock());
  EXPECT_FALSE(second.lock());
}

TEST(RunFolder, TakesOnlyANameOfOursForOne) {
  const Folder home;
  RunFolder folder(home.path());
  EXPECT_EQ(folder.socket_name(), "");
  const std::string name = random_name();
  EXPECT_NE(name, random_name());
  folder.publish(name);
  EXPECT_EQ(folder.socket_name(), name);
  for (const std::string& wrong : {std::string(), name + "0", name.substr(1), std::string("adaptivenet-\0", 13),
                                   "adaptivenet-" + std::string(32, 'g'), std::string(5000, 'a')}) {
    folder.publish(wrong);
    EXPECT_EQ(folder.socket_name(), "") << wrong;
  }
  folder.withdraw();
  EXPECT_FALSE(std::filesystem::exists(home.path() / "run" / "socket"));
}

TEST(RunFolder, IsNoLinkAndNoFile) {
  const Folder home;
  const Folder elsewhere;
  EXPECT_THROW(RunFolder(home.path() / "missing"), DeviceError);
  std::filesystem::create_symlink(elsewhere.path(), home.path() / "run");
  EXPECT_THROW(RunFolder(home.path()), DeviceError);
  std::filesystem::remove(home.path() / "run");
  std::ofstream(home.path() / "run") << "a file";
  EXPECT_THROW(RunFolder(home.path()), DeviceError);
}

}  // namespace
}  // namespace adaptivenet
