#include <span>

#include "core/error.h"
#include "core/manifest.h"
#include "core/pack.h"
#include "core/sha256.h"
#include "folder.h"
#include "refusal.h"
#include "tiny_pack.h"

namespace adaptivenet {
namespace {

// Checks 2 and 12 to 14, on a folder as the phone has it.
class OpenPack : public ::testing::Test {
 protected:
  OpenPack() {
    std::filesystem::create_directory(blobs);
    const std::string program = "program";
    const std::string digest = sha256(std::as_bytes(std::span(program)));
    Json manifest = tiny_manifest();
    manifest["/blocks/0/artifacts/onnx"_json_pointer].update(
        {{"file", "blobs/" + digest + ".onnx"}, {"bytes", program.size()}});
    file = folder.write("manifest.json", with_digest(manifest));
    blob = folder.write("blobs/" + digest + ".onnx", program);
  }

  std::string unread() {
    const Pack pack = Pack::open(file, blobs);
    return refusal<PackError>([&] { pack.read(pack.block_artifact("o0", "onnx")); });
  }

  Folder folder;
  std::filesystem::path blobs = folder.path() / "blobs", file, blob;
};

TEST_F(OpenPack, ReadsPrograms) {
  for (const auto& path : {blobs, blobs / ""}) {
    const Pack pack = Pack::open(file, path);
    const MappedFile program = pack.read(pack.block_artifact("o0", "onnx"));
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(program.bytes().data()), program.bytes().size()), "program");
  }
}

TEST_F(OpenPack, RefusesOtherManifests) {
  EXPECT_TRUE(says(refusal<PackError>([&] { Pack::open(folder.path() / "x", blobs); }), "is missing"));
  std::filesystem::create_symlink(file, folder.path() / "link");
  EXPECT_TRUE(says(refusal<PackError>([&] { Pack::open(folder.path() / "link", blobs); }), "symbolic link"));
  EXPECT_TRUE(says(refusal<PackError>([&] { Pack::open(folder.path(), blobs); }), "is not a regular file"));
  std::filesystem::resize_file(file, std::uintmax_t{1} << 40);
  EXPECT_TRUE(says(refusal<PackError>([&] { Pack::open(file, blobs); }), "more than 16777216 bytes"));
}

TEST_F(OpenPack, RefusesDamagedPrograms) {
  folder.write("blobs/" + blob.filename().string(), "prograM");
  EXPECT_TRUE(says(unread(), "is damaged"));
  folder.write("blobs/" + blob.filename().string(), "program ");
  EXPECT_TRUE(says(unread(), "has 8 bytes, the manifest says 7"));
  folder.write("blobs/" + blob.filename().string(), "");
  EXPECT_TRUE(says(unread(), "has 0 bytes"));
  std::filesystem::remove(blob);
  EXPECT_TRUE(says(unread(), "is missing"));
  std::filesystem::create_directory(blob);
  EXPECT_TRUE(says(unread(), "is not a regular file"));
}

TEST_F(OpenPack, FollowsNoLinks) {
  std::filesystem::rename(blob, folder.path() / "elsewhere");
  std::filesystem::create_symlink(folder.path() / "elsewhere", blob);
  EXPECT_TRUE(says(unread(), "is a symbolic link"));
  std::filesystem::remove(blob);
  std::filesystem::rename(folder.path() / "elsewhere", blob);
  std::filesystem::rename(blobs, folder.path() / "others");
  EXPECT_TRUE(says(unread(), "is not a folder"));
  std::filesystem::create_directory_symlink(folder.path() / "others", blobs);
  EXPECT_TRUE(says(unread(), "is not a folder (or a link to one)"));
  blobs /= "";
  EXPECT_TRUE(says(unread(), "is not a folder (or a link to one)"));
}

TEST(Pack, ParsedWithoutAFolderHasNoPrograms) {
  const Pack pack = Pack::parse(with_digest(tiny_manifest()));
  EXPECT_TRUE(says(refusal<PackError>([&] { pack.read(pack.block_artifact("o0", "onnx")); }), "is not a folder"));
}

}  // namespace
}  // namespace adaptivenet
