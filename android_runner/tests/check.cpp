// runner-check manifest|canonical|safetensors FILE...
// runner-check plan MANIFEST FILE...
//
// What the readers make of files, one line each: "ok", or the kind of the error and its message. After "ok" comes, for
// canonical JSON, its SHA-256; for safetensors, an object from name to dtype, shape and the SHA-256 of the values.
// tests/devices/test_runner_readers.py compares this with what the Python readers say.
#include <cstdio>
#include <exception>
#include <span>
#include <string>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/pack.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "evaluate/plan.h"

namespace adaptivenet {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string tensors_in(const MappedFile& file) {
  Json found = Json::object();
  for (const auto& [name, view] : read_safetensors(file.bytes())) {
    const auto size = static_cast<std::size_t>(bytes_of(view.type));
    found[name] = {name_of(view.type.dtype), view.type.shape, sha256({view.data, size})};
  }
  return canonical_json(found);
}

std::string check(const std::string& what, const Pack& pack, const MappedFile& file) {
  if (what == "manifest") {
    Pack::parse(text_of(file));
  } else if (what == "plan") {
    Plan::from_json(pack, parse_json(text_of(file)));
  } else if (what == "canonical") {
    const std::string text = canonical_json(parse_json(text_of(file)));
    return "ok " + sha256(std::as_bytes(std::span(text)));
  } else {
    return "ok " + tensors_in(file);
  }
  return "ok";
}

std::string answer(const std::string& what, const Pack& pack, const char* path) {
  try {
    return check(what, pack, MappedFile(path));
  } catch (const Error& error) {
    return std::string(error.kind()) + ": " + error.what();
  } catch (const std::invalid_argument& error) {
    return std::string("ValueError: ") + error.what();
  }
}

}  // namespace
}  // namespace adaptivenet

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  const bool is_plan = what == "plan";
  if (count < (is_plan ? 3 : 2) || (!is_plan && what != "manifest" && what != "canonical" && what != "safetensors")) {
    std::fputs("runner-check manifest|canonical|safetensors FILE..., or plan MANIFEST FILE...\n", stderr);
    return 2;
  }
  adaptivenet::Pack pack;
  if (is_plan) {
    const adaptivenet::MappedFile manifest{std::filesystem::path(arguments[2])};
    pack = adaptivenet::Pack::parse(adaptivenet::text_of(manifest));
  }
  for (int at = is_plan ? 3 : 2; at < count; ++at) {
    std::puts(adaptivenet::answer(what, pack, arguments[at]).c_str());
  }
}
