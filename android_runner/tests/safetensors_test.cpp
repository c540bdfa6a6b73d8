#include "core/safetensors.h"

#include <cstring>
#include <span>

#include "core/error.h"
#include "core/json.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  std::string file;
  for (int shift = 0; shift < 64; shift += 8) file += static_cast<char>(std::uint64_t{header.size()} >> shift & 0xFF);
  return file + header + data;
}

std::map<std::string, TensorView> read(const std::string& file) {
  return read_safetensors(std::as_bytes(std::span(file)));
}

std::string refused(const std::string& file) {
  return refusal<DataError>([&] { read(file); });
}

std::string refused(const Json& header, const std::string& data) { return refused(file_of(header.dump(), data)); }

Json tensor(const std::string& dtype, const Json& shape, std::int64_t begin, std::int64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

TEST(Safetensors, GivesViewsIntoTheFile) {
  const std::string file = file_of(Json{{"labels", tensor("I64", {1}, 12, 20)},
                                        {"images", tensor("U8", {2, 3, 2}, 0, 12)},
                                        {"__metadata__", {{"made", "here"}}}}
                                       .dump(),
                                   "abcdefghijkl12345678");
  const auto tensors = read(file);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors.at("images").type, (TensorType{{2, 3, 2}, DType::kUInt8}));
  EXPECT_EQ(std::memcmp(tensors.at("images").data, "abcdefghijkl", 12), 0);
  EXPECT_EQ(tensors.at("labels").type, (TensorType{{1}, DType::kInt64}));
  EXPECT_EQ(reinterpret_cast<const char*>(tensors.at("labels").data), file.data() + file.size() - 8);
}

TEST(Safetensors, KnowsTheDTypesOfPacks) {
  const std::pair<const char*, const char*> known[] = {{"F32", "float32"}, {"F16", "float16"}, {"BF16", "bfloat16"},
                                                       {"I64", "int64"},   {"I32", "int32"},   {"I8", "int8"},
                                                       {"U8", "uint8"},    {"BOOL", "bool"}};
  for (const auto& [name, dtype] : known) {
    const std::size_t size = size_of(dtype_from_name(dtype));
    const auto header = Json{{"x", tensor(name, Json::array({3}), 0, static_cast<std::int64_t>(3 * size))}};
    const std::string file = file_of(header.dump(), std::string(3 * size, '\0'));
    EXPECT_STREQ(name_of(read(file).at("x").type.dtype), dtype);
  }
  for (const char* name : {"F64", "U16", "f32", "float32", "", "F8_E4M3"}) {
    EXPECT_TRUE(says(refused({{"x", tensor(name, Json::array({1}), 0, 4)}}, "1234"), "does not read"));
  }
}

TEST(Safetensors, MayHoldNothingOrEmptyTensorsOrAScalar) {
  EXPECT_TRUE(read(file_of("{}", "")).empty());
  EXPECT_TRUE(read(file_of("{}  \n ", "")).empty());
  EXPECT_EQ(read(file_of(Json{{"x", tensor("F32", Json::array(), 0, 4)}}.dump(), "1234")).at("x").type.shape, Shape{});
  const Json header = {{"a", tensor("F32", {0, 9007199254740991}, 0, 0)},
                       {"b", tensor("U8", Json::array({2}), 0, 2)},
                       {"c", tensor("U8", Json::array({0}), 2, 2)}};
  EXPECT_EQ(read(file_of(header.dump(), "12")).size(), 3u);
}

TEST(Safetensors, RefusesHeadersThatAreNone) {
  EXPECT_TRUE(says(refused(std::string()), "it has 0 bytes"));
  EXPECT_TRUE(says(refused(std::string(7, '\0')), "it has 7 bytes"));
  EXPECT_TRUE(says(refused(std::string(8, '\0')), "does not begin with '{'"));
  EXPECT_TRUE(says(refused(std::string(8, '\xFF')), "a header of 18446744073709551615 bytes in a file of 8"));
  EXPECT_TRUE(says(refused(std::string("\3\0\0\0\0\0\0\0{}", 10)), "a header of 3 bytes in a file of 10"));
  const std::string padded = "{}" + std::string((1 << 20) - 2, ' ');
  EXPECT_TRUE(read(file_of(padded, "")).empty());
  EXPECT_TRUE(says(refused(file_of(padded + " ", "")), "at most 1048576"));
  for (const std::string header : {" {}", "[]", "null", "", "\xEF\xBB\xBF{}"}) {
    EXPECT_TRUE(says(refused(file_of(header, "")), "does not begin with '{'"));
  }
  for (const std::string& header :
       {std::string("{"), std::string("{}x"), std::string("{\"a\":1e999}"), std::string("{}\0", 3)}) {
    EXPECT_TRUE(says(refused(file_of(header, "")), "its header is no JSON"));
  }
  const std::string entry = tensor("U8", {}, 0, 1).dump();
  EXPECT_TRUE(says(refused(file_of("{\"a\":" + entry + ",\"a\":" + entry + "}", "1")), "the key 'a' twice"));
}

TEST(Safetensors, RefusesEntriesOfAnotherForm) {
  const Json good = tensor("U8", Json::array({2}), 0, 2);
  for (const auto& [key, value] : good.items()) {
    Json entry = good;
    entry.erase(key);
    EXPECT_TRUE(says(refused({{"x", entry}}, "12"), "must have exactly dtype, shape and data_offsets"));
    entry["other"] = value;
    EXPECT_TRUE(says(refused({{"x", entry}}, "12"), "must have exactly dtype, shape and data_offsets"));
    for (const Json& other :
         {Json(), Json(1), Json("x"), Json::object(), Json{nullptr}, Json{-1}, Json{2.0}, Json{true}}) {
      entry = good;
      entry[key] = other;
      refused({{"x", entry}}, "12");
    }
  }
  Json more = good;
  more["extra"] = 1;
  refused({{"x", more}}, "12");
  for (const Json& entry : {Json(), Json(1), Json("x"), Json::array(), Json::object()}) refused({{"x", entry}}, "12");
  for (const Json& metadata : {Json(), Json(1), Json("x"), Json::array(), Json{{"a", 1}}, Json{{"a", nullptr}}}) {
    EXPECT_TRUE(says(refused({{"__metadata__", metadata}}, ""), "__metadata__ is no object of strings"));
  }
}

TEST(Safetensors, RefusesOffsetsThatDoNotFit) {
  EXPECT_TRUE(
      says(refused({{"x", tensor("F32", Json::array({2}), 0, 4)}}, "1234"), "float32 (2,), but its data has 4 bytes"));
  EXPECT_TRUE(
      says(refused({{"x", tensor("U8", Json::array({2}), 2, 0)}}, "12"), "data_offsets of tensor 'x' are [2,0]"));
  EXPECT_TRUE(says(refused({{"x", tensor("U8", Json::array({2}), 0, 2)}}, "1"), "end at byte 2 of 1"));
  EXPECT_TRUE(says(refused({{"x", tensor("U8", Json::array({2}), 0, 2)}}, "123"), "end at byte 2 of 3"));
  EXPECT_TRUE(says(refused({{"x", tensor("U8", Json::array({2}), 1, 3)}}, "123"), "begins at byte 1"));
  EXPECT_TRUE(says(refused(Json::object(), "1"), "end at byte 0 of 1"));
  const Json hole = {{"x", tensor("U8", Json::array({2}), 0, 2)}, {"y", tensor("U8", Json::array({1}), 3, 4)}};
  EXPECT_TRUE(says(refused(hole, "1234"), "tensor 'y' begins at byte 3, the one before it ends at 2"));
  const Json overlap = {{"x", tensor("U8", Json::array({2}), 0, 2)}, {"y", tensor("U8", Json::array({2}), 1, 3)}};
  EXPECT_TRUE(says(refused(overlap, "123"), "tensor 'y' begins at byte 1, the one before it ends at 2"));
  const Json same = {{"x", tensor("U8", Json::array({2}), 0, 2)}, {"y", tensor("U8", Json::array({2}), 0, 2)}};
  EXPECT_TRUE(says(refused(same, "12"), "begins at byte 0"));
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  const Json shapes[] = {{4294967296, 4294967296},
                         {4294967296, 1073741824},
                         Json(9, 2147483647),
                         {9007199254740991, 2048, 2},
                         Json::array({9007199254740991})};
  for (const Json& shape : shapes) {
    EXPECT_TRUE(says(refused({{"x", tensor("F32", shape, 0, 0)}}, ""), "but its data has 0 bytes"));
    EXPECT_TRUE(says(refused({{"x", tensor("U8", shape, 0, 9007199254740990)}}, ""), "9007199254740990 bytes"));
  }
  EXPECT_TRUE(says(refused({{"x", tensor("U8", Json::array({9007199254740991}), 0, 9007199254740991)}}, ""),
                   "end at byte 9007199254740991 of 0"));
}

TEST(Safetensors, ReadsNothingBeyondACutFile) {
  const std::string file = file_of(Json{{"x", tensor("F32", Json::array({3}), 0, 12)}}.dump(), "123456781234");
  EXPECT_EQ(read(file).size(), 1u);
  for (std::size_t length = 0; length < file.size(); ++length) {
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length));  // for the sanitizer
    EXPECT_THROW(read_safetensors(std::as_bytes(std::span(cut))), DataError) << length;
  }
}

}  // namespace
}  // namespace adaptivenet
