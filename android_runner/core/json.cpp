#include "core/json.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/quote.h"

namespace adaptivenet {
namespace {

constexpr std::int64_t kWholeLimit = std::int64_t{1} << 53;
constexpr std::size_t kLevels = 64;

[[noreturn]] void refuse(const std::string& reason) { throw std::invalid_argument(reason); }

// Builds the value from the library's parser, which by itself takes the last of two equal keys, any depth, and turns
// whole numbers that are too large into floats.
class Builder {
 public:
  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) {
    if (value <= -kWholeLimit) refuse_number(std::to_string(value));
    return add(value);
  }
  bool number_unsigned(std::uint64_t value) {
    if (value >= static_cast<std::uint64_t>(kWholeLimit)) refuse_number(std::to_string(value));
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& text) {
    if (text.find_first_of(".eE") == std::string::npos) refuse_number(text);
    return add(value);
  }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // does not occur in JSON text

  bool start_object(std::size_t) { return open(Json::object()); }
  bool key(std::string& name) {
    const auto [entry, is_new] = open_.back()->get_ref<Json::object_t&>().emplace(name, nullptr);
    if (!is_new) refuse("the key " + quote(name) + " twice in one object");
    field_ = &entry->second;
    return true;
  }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_array() { return close(); }

  bool parse_error(std::size_t, const std::string& last, const Json::exception& error) {
    if (dynamic_cast<const Json::out_of_range*>(&error) != nullptr) refuse_number(last);
    // The library says "[json.exception.parse_error.101] parse error at …: …; last read: '…'". Only the middle part is
    // taken, because the text that was read last may not be UTF-8.
    std::string reason = error.what();
    reason.erase(0, reason.find("] ") + 2);
    reason.erase(std::min(reason.find("; last read"), reason.size()));
    refuse(reason);
  }

  Json take() { return std::move(root_); }

 private:
  [[noreturn]] static void refuse_number(const std::string& text) {
    refuse("the number " + quote(text) + "; numbers are finite, whole ones between -2^53 and 2^53");
  }

  bool add(Json value) {
    put(std::move(value));
    return true;
  }

  // The pointers on the stack stay valid: a list or object grows only when everything opened inside it is closed.
  bool open(Json value) {
    if (open_.size() == kLevels) refuse("more than " + std::to_string(kLevels) + " levels");
    open_.push_back(put(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json* put(Json value) {
    Json* place = &root_;
    if (!open_.empty()) place = open_.back()->is_array() ? &open_.back()->emplace_back() : field_;
    *place = std::move(value);
    return place;
  }

  Json root_;
  std::vector<Json*> open_;
  Json* field_ = nullptr;
};

void write_string(const std::string& text, std::string& out) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    switch (character) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (byte < 0x20) {
          out += "\\u00";
          out += kDigits[byte >> 4];
          out += kDigits[byte & 15];
        } else {
          out += character;
        }
    }
  }
  out += '"';
}

void write_double(double value, std::string& out) {
  if (!std::isfinite(value)) refuse("a number that is not finite");
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t mark = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(mark + 1)).c_str());
  if (exponent < -4 || exponent >= 16) {
    out += text;
    return;
  }
  if (text.front() == '-') out += '-';
  std::string digits;
  for (const char character : text.substr(0, mark)) {
    if (character >= '0' && character <= '9') digits += character;
  }
  if (exponent < 0) {
    out += "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    return;
  }
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() < whole + 1) digits.append(whole + 1 - digits.size(), '0');
  out += digits.substr(0, whole) + "." + digits.substr(whole);
}

void write(const Json& value, std::string& out) {
  switch (value.type()) {
    case Json::value_t::object: {
      // The library keeps keys in a std::map: sorted by bytes, which in UTF-8 is the order of the code points.
      char separator = '{';
      for (const auto& [key, field] : value.get_ref<const Json::object_t&>()) {
        out += separator;
        write_string(key, out);
        out += ':';
        write(field, out);
        separator = ',';
      }
      out += value.empty() ? "{}" : "}";
      break;
    }
    case Json::value_t::array: {
      char separator = '[';
      for (const Json& entry : value) {
        out += separator;
        write(entry, out);
        separator = ',';
      }
      out += value.empty() ? "[]" : "]";
      break;
    }
    case Json::value_t::string:
      write_string(value.get_ref<const std::string&>(), out);
      break;
    case Json::value_t::number_float:
      write_double(value.get<double>(), out);
      break;
    default:  // null, true, false and whole numbers, which the library writes as Python does
      out += value.dump();
  }
}

}  // namespace

Json parse_json(std::string_view text) {
  // The library skips a byte order mark, and takes a NUL for the end.
  if (text.starts_with("\xEF\xBB\xBF")) refuse("begins with a byte order mark");
  if (text.find('\0') != std::string_view::npos) refuse("a NUL byte");
  Builder builder;
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string canonical_json(const Json& value) {
  std::string text;
  write(value, text);
  return text;
}

}  // namespace adaptivenet
