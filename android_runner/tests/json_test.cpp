#include "core/json.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/quote.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

using namespace std::string_literals;

std::string refused(const std::string& text) {
  return refusal<std::invalid_argument>([&] { parse_json(text); });
}

std::string again(const std::string& text) { return canonical_json(parse_json(text)); }

std::string nested(std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }

TEST(Json, ReadsEveryKindOfValue) {
  const Json value =
      parse_json(" {\"a\": [null, true, false, -7, 2.5, \"\\u00e9\\ud83d\\ude00\\n\"], \"b\": {}}\r\n\t");
  EXPECT_EQ(value, (Json{{"a", {nullptr, true, false, -7, 2.5, "é😀\n"}}, {"b", Json::object()}}));
  EXPECT_EQ(parse_json("3"), 3);
  EXPECT_EQ(parse_json("\"\""), "");
}

TEST(Json, KeepsWholeNumbersAndFloatsApart) {
  EXPECT_TRUE(parse_json("24").is_number_integer());
  EXPECT_TRUE(parse_json("24.0").is_number_float());
  EXPECT_TRUE(parse_json("24e0").is_number_float());
  EXPECT_TRUE(parse_json("-0").is_number_integer());
  EXPECT_EQ(parse_json("-0").get<std::int64_t>(), 0);
  EXPECT_TRUE(std::signbit(parse_json("-0.0").get<double>()));
}

TEST(Json, RefusesWholeNumbersFrom2To53On) {
  EXPECT_EQ(parse_json("9007199254740991").get<std::int64_t>(), 9007199254740991);
  EXPECT_EQ(parse_json("-9007199254740991").get<std::int64_t>(), -9007199254740991);
  for (const std::string number :
       {"9007199254740992", "-9007199254740992", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
        "18446744073709551616", "-18446744073709551616"}) {
    EXPECT_TRUE(says(refused(number), "the number '" + number));
    EXPECT_TRUE(says(refused("[" + number + "]"), "whole ones between -2^53 and 2^53"));
  }
  EXPECT_TRUE(says(refused(std::string(5000, '9')), "..."));
  EXPECT_EQ(parse_json("9007199254740992.0"), 9007199254740992.0);
}

TEST(Json, RefusesNumbersThatAreNoFiniteDouble) {
  for (const std::string text : {"1e999", "-1e999", "1.8e308", "NaN", "Infinity", "-Infinity", "nan"}) refused(text);
  EXPECT_EQ(parse_json("1e-999"), 0.0);
  EXPECT_EQ(parse_json("1.7976931348623157e308"), std::numeric_limits<double>::max());
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const std::string text : {
           "",          " ",        "{",      "[",   "]",    "[1,]",    "{\"a\":1,}", "{a:1}", "{'a':1}",
           "{\"a\"}",   "{\"a\":}", "[1 2]",  "1 2", "01",   "+1",      ".5",         "5.",    "1e",
           "0x10",      "--1",      "- 1",    "tru", "True", "// c\n1", "/* c */1",   "\"a",   "\"\\x\"",
           "\"\\u12\"", "\"\t\"",   "\"\n\"", "\v1", "[1]]", "{}{}",    "\"\x7f",
       }) {
    refused(text);
  }
}

TEST(Json, RefusesNulBytesThatTheLibraryTakesForTheEnd) {
  for (const std::string& text : {"1\0"s, "1\0garbage"s, "\0"s, "\"a\0b\""s, "[1]\0[2]"s}) {
    EXPECT_TRUE(says(refused(text), "NUL"));
  }
  EXPECT_EQ(parse_json("\"\\u0000\""), "\0"s);
}

TEST(Json, RefusesByteOrderMarks) {
  EXPECT_TRUE(says(refused("\xEF\xBB\xBF{}"), "byte order mark"));
  for (const std::string& text : {"\xEF\xBB\xBF"s, "\xEF\xBB"s, "\xFF\xFE{\0}\0"s, "\xFE\xFF\0{\0}"s}) refused(text);
  EXPECT_EQ(parse_json("\"\xEF\xBB\xBF\""), "\xEF\xBB\xBF");
}

TEST(Json, RefusesWhatIsNoUtf8) {
  for (const std::string text : {
           "\x80",
           "\xC0\xAF",
           "\xC1\xBF",
           "\xE0\x80\xAF",
           "\xED\xA0\x80",
           "\xED\xBF\xBF",
           "\xF0\x80\x80\x80",
           "\xF4\x90\x80\x80",
           "\xF8\x88\x80\x80\x80",
           "\xFF",
           "\xC3",
           "\xE2\x82",
           "\xC3\x28",
       }) {
    refused("\"" + text + "\"");
    refused("{\"" + text + "\": 1}");
  }
  for (const std::string text : {"\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud800x", "\\udc00\\ud800"}) {
    refused("\"" + text + "\"");
  }
}

TEST(Json, MessagesAreShortUtf8OnOneLine) {
  for (const std::string& text : {"\"\xFF\xFE"s, "["s + std::string(100000, '9'), "{\"\\n\": 1, \"\\n\": 2}"s,
                                  "{\"" + std::string(9999, 'k') + "\":1,\"" + std::string(9999, 'k') + "\":1}"}) {
    const std::string message = refused(text);
    EXPECT_LT(message.size(), 250u);
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_NO_THROW(Json(message).dump());  // throws for what is not UTF-8
  }
}

TEST(Json, RefusesAKeyTwice) {
  EXPECT_TRUE(says(refused(R"({"a": 1, "a": 1})"), "the key 'a' twice"));
  EXPECT_TRUE(says(refused(R"({"b": {"": 1, "x": 2, "": {}}})"), "the key '' twice"));
  EXPECT_TRUE(says(refused(R"({"a": 1, "\u0061": 1})"), "the key 'a' twice"));
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])"), (Json{{{"a", 1}}, {{"a", {{"a", 2}}}}}));
}

TEST(Json, RefusesMoreThan64Levels) {
  EXPECT_EQ(again(nested(64)), nested(64));
  EXPECT_TRUE(says(refused(nested(65)), "more than 64 levels"));
  EXPECT_TRUE(says(refused(std::string(1000000, '[')), "more than 64 levels"));
  std::string objects = "1";
  for (int level = 0; level < 64; ++level) objects = "{\"a\":" + objects + "}";
  EXPECT_EQ(again(objects), objects);
  EXPECT_TRUE(says(refused("{\"a\":" + objects + "}"), "more than 64 levels"));
  EXPECT_EQ(parse_json("[" + nested(60) + "," + nested(60) + "]").size(), 2u);  // beside each other is not deeper
}

TEST(CanonicalJson, SortsByCodePointAndLeavesNoSpaces) {
  EXPECT_EQ(again(R"( { "b" : [ 1 , { } , [ ] ] , "a" : null , "B" : true } )"),
            R"({"B":true,"a":null,"b":[1,{},[]]})");
  // UTF-16 would put the emoji (D83D …) before the full-width A (FF21).
  EXPECT_EQ(again(R"({"😀": 1, "Ａ": 2, "é": 3, "z": 4, "": 5})"), R"({"":5,"z":4,"é":3,"Ａ":2,"😀":1})");
}

TEST(CanonicalJson, EscapesOnlyWhatItMust) {
  EXPECT_EQ(again(R"("\"\\\/\b\f\n\r\t\u0000\u001f\u007f\u0080\u2028é")"),
            "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xC2\x80\xE2\x80\xA8é\"");
}

TEST(CanonicalJson, WritesNumbersAsPythonDoes) {
  const std::vector<std::pair<std::string, std::string>> known = {
      {"0", "0"},
      {"-0", "0"},
      {"-12", "-12"},
      {"9007199254740991", "9007199254740991"},
      {"0.0", "0.0"},
      {"-0.0", "-0.0"},
      {"-0e5", "-0.0"},
      {"1e0", "1.0"},
      {"1.50", "1.5"},
      {"100E-2", "1.0"},
      {"-2.5e1", "-25.0"},
      {"0.1", "0.1"},
      {"0.30000000000000004", "0.30000000000000004"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"0.000123456", "0.000123456"},
      {"0.0000123456", "1.23456e-05"},
      {"123456789012345.6", "123456789012345.6"},
      {"1e15", "1000000000000000.0"},
      {"9999999999999998.0", "9999999999999998.0"},
      {"1e16", "1e+16"},
      {"12345678901234567.0", "1.2345678901234568e+16"},
      {"9007199254740993.0", "9007199254740992.0"},
      {"1e22", "1e+22"},
      {"1e23", "1e+23"},
      {"1e100", "1e+100"},
      {"1e-7", "1e-07"},
      {"-1e-100", "-1e-100"},
      {"5e-324", "5e-324"},
      {"2.2250738585072014e-308", "2.2250738585072014e-308"},
      {"1.7976931348623157e308", "1.7976931348623157e+308"},
      {"0.00392156862745098", "0.00392156862745098"},
  };
  for (const auto& [text, expected] : known) EXPECT_EQ(again(text), expected) << text;
}

TEST(CanonicalJson, RefusesWhatJsonCannotHold) {
  for (const double number : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(canonical_json(Json{number}), std::invalid_argument);
  }
}

TEST(Quote, PutsTextOnOneShortLine) {
  EXPECT_EQ(quote("b0"), "'b0'");
  EXPECT_EQ(quote("a\nb\x1b[31m\x7f\xC2\x85é"), "'a?b?[31m??é'");
  EXPECT_EQ(quote(std::string(80, 'x')), "'" + std::string(80, 'x') + "'");
  EXPECT_EQ(quote(std::string(81, 'x')), "'" + std::string(80, 'x') + "...'");
  EXPECT_EQ(quote(std::string(79, 'x') + "é"), "'" + std::string(79, 'x') + "...'");  // cut between characters
  EXPECT_EQ(shown(Json{1, "a\n"}), "[1,\"a\\n\"]");
  EXPECT_EQ(shown("a\n"), "'a?'");
}

}  // namespace
}  // namespace adaptivenet
