#include "core/manifest.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>

#include "core/error.h"
#include "core/quote.h"
#include "core/sha256.h"

namespace adaptivenet {
namespace {

constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();  // parse_json has its own limit

// A value and where it stands in the manifest, so that an error can say "$.blocks[3].macs".
class Place {
 public:
  explicit Place(const Json& root) : value_(root) {}

  const Json& value() const { return value_; }
  Place field(const std::string& name) const { return Place(value_.at(name), this, "." + name); }
  Place item(std::size_t at) const { return Place(value_.at(at), this, "[" + std::to_string(at) + "]"); }

  [[noreturn]] void refuse(const std::string& what) const { throw PackError("manifest.json: " + path() + ": " + what); }
  void require(bool holds, const std::string& rule) const {
    if (!holds) refuse(shown(value_) + " is not " + rule);
  }

 private:
  Place(const Json& value, const Place* outer, std::string step)
      : value_(value), outer_(outer), step_(std::move(step)) {}

  std::string path() const { return outer_ == nullptr ? "$" : outer_->path() + step_; }

  const Json& value_;
  const Place* outer_ = nullptr;  // it exists longer than this one: places are made on the way down only
  std::string step_;
};

using Rule = void (*)(const Place&);
using TextRule = bool (*)(std::string_view);

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

bool is_digest(std::string_view text) { return text.size() == 64 && std::all_of(text.begin(), text.end(), is_hex); }

bool is_identifier(std::string_view text) {
  const auto is_first = [](char c) { return is_lower(c) || is_digit(c) || is_upper(c); };
  const auto is_inner = [&](char c) { return is_first(c) || c == '_' || c == '-'; };
  return !text.empty() && text.size() <= 64 && is_first(text.front()) &&
         std::all_of(text.begin(), text.end(), is_inner);
}

bool is_kind(std::string_view text) {
  const auto is_inner = [](char c) { return is_lower(c) || is_digit(c) || c == '_' || c == '-'; };
  return !text.empty() && text.size() <= 32 && is_lower(text.front()) &&
         std::all_of(text.begin(), text.end(), is_inner);
}

bool is_blob(std::string_view text) {
  constexpr std::string_view kFolder = "blobs/";
  if (!text.starts_with(kFolder) || text.size() < kFolder.size() + 64) return false;
  const std::string_view suffix = text.substr(kFolder.size() + 64);
  return is_digest(text.substr(kFolder.size(), 64)) && (suffix == ".pte" || suffix == ".onnx");
}

// The length in code points; the text is UTF-8.
std::size_t length_of(std::string_view text) {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts));
}

bool is_line(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x20 || byte == 0x7F) return false;
    const bool has_next = at + 1 < text.size();
    if (byte == 0xC2 && has_next && static_cast<unsigned char>(text[at + 1]) < 0xA0) return false;  // U+0080 to U+009F
  }
  return length_of(text) <= 4096;
}

// Short digests, of pictures: 8 characters of base64 each. The runner does not use them.
bool is_digests(std::string_view text) {
  const auto is_base64 = [](char c) { return is_lower(c) || is_upper(c) || is_digit(c) || c == '+' || c == '/'; };
  return text.size() % 8 == 0 && text.size() <= 131072 && std::all_of(text.begin(), text.end(), is_base64);
}

bool is_title(std::string_view text) { return is_line(text) && !text.empty() && length_of(text) <= 200; }

bool is_unit(std::string_view text) { return is_line(text) && length_of(text) <= 16; }

void text(const Place& place, TextRule holds, const std::string& rule) {
  place.require(place.value().is_string() && holds(place.value().get_ref<const std::string&>()), rule);
}

void digest(const Place& place) { text(place, is_digest, "a digest of 64 hexadecimal digits"); }
void digests(const Place& place) { text(place, is_digests, "digests of 8 characters of base64 each"); }
void identifier(const Place& place) { text(place, is_identifier, "a name of letters, digits, '-' and '_'"); }
void kind(const Place& place) { text(place, is_kind, "a kind of lower-case letters, digits, '-' and '_'"); }
void blob(const Place& place) { text(place, is_blob, "'blobs/', 64 hexadecimal digits, and '.pte' or '.onnx'"); }
void line(const Place& place) { text(place, is_line, "a line of text without control characters"); }
void title(const Place& place) { text(place, is_title, "a line of 1 to 200 characters"); }
void unit(const Place& place) { text(place, is_unit, "a line of at most 16 characters"); }

void one_of(const Place& place, std::initializer_list<std::string_view> known) {
  const bool is_known = place.value().is_string() &&
                        std::count(known.begin(), known.end(), place.value().get_ref<const std::string&>()) > 0;
  std::string rule = "one of";
  for (const std::string_view name : known) rule += " " + std::string(name);
  place.require(is_known, rule);
}

template <std::int64_t low, std::int64_t high>
void whole(const Place& place) {
  const bool holds = place.value().is_number_integer() && place.value().get<std::int64_t>() >= low &&
                     place.value().get<std::int64_t>() <= high;
  place.require(holds,
                "a whole number from " + std::to_string(low) + (high == kAny ? " on" : " to " + std::to_string(high)));
}

void number(const Place& place) { place.require(place.value().is_number(), "a number"); }

void positive(const Place& place) {
  place.require(place.value().is_number() && place.value().get<double>() > 0, "a number above 0");
}

void at_least_zero(const Place& place) {
  place.require(place.value().is_number() && place.value().get<double>() >= 0, "a number that is at least 0");
}

void share(const Place& place) {
  const bool holds = place.value().is_number() && place.value().get<double>() >= 0 && place.value().get<double>() <= 1;
  place.require(holds, "a number from 0 to 1");
}

template <Rule rule>
void nullable(const Place& place) {
  if (!place.value().is_null()) rule(place);
}

template <Rule rule, std::size_t fewest, std::size_t most>
void list(const Place& place) {
  if (!place.value().is_array()) place.refuse(shown(place.value()) + " is not a list");
  const std::size_t count = place.value().size();
  if (count < fewest || count > most) {
    place.refuse("has " + std::to_string(count) + " entries; there are " + std::to_string(fewest) + " to " +
                 std::to_string(most));
  }
  for (std::size_t at = 0; at < count; ++at) rule(place.item(at));
}

// An object whose keys are chosen by whoever made the pack.
template <TextRule is_key, Rule rule, std::size_t most>
void mapping(const Place& place) {
  place.require(place.value().is_object(), "an object");
  if (place.value().size() > most) place.refuse("has more than " + std::to_string(most) + " fields");
  for (const auto& [key, value] : place.value().items()) {
    if (!is_key(key)) place.refuse("the name " + quote(key) + " is not allowed");
    rule(place.field(key));
  }
}

enum class Presence { kRequired, kOptional };

struct Field {
  const char* name;
  Rule rule;
  Presence presence = Presence::kRequired;
};

// An object with these fields and no others.
void fields(const Place& place, std::initializer_list<Field> known) {
  place.require(place.value().is_object(), "an object");
  for (const auto& [key, value] : place.value().items()) {
    const auto has_name = [&key = key](const Field& field) { return key == field.name; };
    if (std::none_of(known.begin(), known.end(), has_name)) place.refuse("unknown field " + quote(key));
  }
  for (const Field& field : known) {
    if (place.value().contains(field.name)) {
      field.rule(place.field(field.name));
    } else if (field.presence == Presence::kRequired) {
      place.refuse("the field '" + std::string(field.name) + "' is missing");
    }
  }
}

constexpr auto shape = list<whole<1, 2147483647>, 1, 8>;
constexpr auto index = whole<0, kAny>;
constexpr auto side = whole<1, 16384>;

void dtype(const Place& place) {
  one_of(place, {"float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"});
}

void cut(const Place& place) { fields(place, {{"index", index}, {"shape", shape}, {"dtype", dtype}}); }

void output(const Place& place) { fields(place, {{"name", line}, {"shape", shape}}); }

void input_dtype(const Place& place) { one_of(place, {"float32", "int64", "int32", "bool"}); }

void input(const Place& place) { fields(place, {{"name", line}, {"shape", shape}, {"dtype", input_dtype}}); }

void layout(const Place& place) { one_of(place, {"contiguous", "channels_last"}); }

void artifact(const Place& place) {
  fields(place, {{"file", blob},
                 {"bytes", whole<1, kAny>},
                 {"layout", layout},
                 {"max_abs_error", nullable<at_least_zero>},
                 {"tolerance", nullable<at_least_zero>},
                 {"snr_db", nullable<number>, Presence::kOptional},
                 {"made_from", nullable<digest>, Presence::kOptional}});
}

void artifacts(const Place& place) {
  fields(place, {{"executorch", artifact, Presence::kOptional}, {"onnx", artifact, Presence::kOptional}});
  if (place.value().empty()) place.refuse("there is no artifact");
}

void precision(const Place& place) { one_of(place, {"float32", "int8"}); }

void block(const Place& place) {
  fields(place, {{"name", identifier},
                 {"start", index},
                 {"end", index},
                 {"kind", kind},
                 {"source", line},
                 {"ratio", nullable<share>, Presence::kOptional},
                 {"params", whole<0, kAny>},
                 {"macs", whole<0, kAny>},
                 {"loss", nullable<at_least_zero>, Presence::kOptional},
                 {"precision", precision, Presence::kOptional},
                 {"twin_of", nullable<identifier>, Presence::kOptional},
                 {"reads", list<index, 0, 1024>, Presence::kOptional},
                 {"artifacts", artifacts}});
}

void operand(const Place& place) { one_of(place, {"output", "oracle", "label"}); }

void operands(const Place& place) {
  list<operand, 1, 3>(place);
  std::vector<Json> sorted = place.value();
  std::sort(sorted.begin(), sorted.end());
  place.require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "a list of different operands");
}

void end(const Place& place) {
  const bool holds = place.value().is_number() && std::abs(place.value().get<double>()) <= 1e9;
  place.require(holds, "a number from -1e9 to 1e9");
}

void score(const Place& place) { fields(place, {{"unit", unit}, {"worst", end}, {"best", end}}); }

void metric(const Place& place) {
  fields(place, {{"operands", operands},
                 {"sums", list<identifier, 1, 4096>},
                 {"score", score, Presence::kOptional},
                 {"artifacts", artifacts}});
}

void crop(const Place& place) { one_of(place, {"center"}); }

void interpolation(const Place& place) { one_of(place, {"bilinear", "bicubic"}); }

void preprocessing(const Place& place) {
  fields(place, {{"height", side},
                 {"width", side},
                 {"resize_short", nullable<side>},
                 {"crop", crop},
                 {"interpolation", interpolation},
                 {"mean", list<number, 3, 3>},
                 {"std", list<positive, 3, 3>},
                 {"scale", positive}});
}

void checked_before(const Place&) {}

// toolkit/pack/schema/pack.schema.json in C++.
void manifest(const Place& place) {
  fields(place, {{"format", checked_before},
                 {"version", checked_before},
                 {"name", title},
                 {"digest", checked_before},
                 {"cuts", list<cut, 2, 1024>},
                 {"taps", list<index, 0, 1024>},
                 {"inputs", list<input, 1, 1024>, Presence::kOptional},
                 {"outputs", list<output, 2, 1024>, Presence::kOptional},
                 {"blocks", list<block, 1, 16384>},
                 {"metrics", mapping<is_identifier, metric, 64>},
                 {"preprocessing", nullable<preprocessing>},
                 {"classes", nullable<list<line, 1, 100000>>},
                 {"trained_on", digests, Presence::kOptional},
                 {"provenance", mapping<is_line, line, 1024>}});
}

void require_format(const Json& document) {
  if (!document.is_object() || !document.contains("format") || document["format"] != "adaptivenet-pack") {
    throw PackError(R"(manifest.json does not say "format": "adaptivenet-pack"; it is not a block pack's manifest)");
  }
  const Json version = document.value("version", Json());
  if (!version.is_number_integer() || version != 2) {
    throw PackError("is of format version " + shown(version) + ", but this program reads version 2; export it again");
  }
}

void require_digest(Json& document) {
  auto stated = document.get_ref<Json::object_t&>().extract("digest");
  const std::string text = canonical_json(document);
  const std::string digest = sha256(std::as_bytes(std::span(text)));
  if (stated.empty() || stated.mapped() != digest) {
    throw PackError("manifest.json was edited or damaged: its digest should be " + digest +
                    "; export or copy the pack again");
  }
  document.get_ref<Json::object_t&>().insert(std::move(stated));
}

}  // namespace

Json parse_manifest(std::string_view text) {
  if (text.size() > kManifestLimit) {
    throw PackError("manifest.json has more than " + std::to_string(kManifestLimit) +
                    " bytes, which no pack needs; it is not a manifest");
  }
  Json document;
  try {
    document = parse_json(text);
  } catch (const std::invalid_argument& error) {
    throw PackError(std::string("manifest.json cannot be read as JSON: ") + error.what() +
                    "; export or copy the pack again");
  }
  require_format(document);
  require_digest(document);
  manifest(Place(document));
  return document;
}

}  // namespace adaptivenet
