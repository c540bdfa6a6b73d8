#include "serving/profile.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>

#include "core/error.h"
#include "core/json.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

struct Candidate {
  PointToServe point;
  std::optional<double> quality;
};

double time_from(const Json& value) {
  const auto ms = value.get<double>();
  if (!(ms > 0)) throw ProfileError("the profile is damaged: a subnet takes " + shown(value) + " ms; profile again");
  return ms;
}

int threads_from(const Json& value) {
  if (!value.is_number_integer() || value < 1 || value > std::numeric_limits<int>::max()) {
    throw ProfileError("the profile is damaged: it was made with " + shown(value) + " threads; profile again");
  }
  return value.get<int>();
}

// What a point takes of something; none where it was not measured, as in profiles of earlier toolkits.
std::optional<double> cost_from(const Json& point, const char* field) {
  const auto found = point.find(field);
  if (found == point.end() || found->is_null()) return std::nullopt;
  const double cost = found->is_number() ? found->get<double>() : -1;
  if (!(cost >= 0)) {
    throw ProfileError("the profile is damaged: the " + std::string(field) + " of a subnet is " + shown(*found) +
                       "; profile again");
  }
  return cost;
}

Candidate candidate_from(const Json& document) {
  Candidate found;
  found.point.subnet = document.at("subnet").get<Subnet>();
  const Json& measured = document.at("measured_ms");
  found.point.costs.latency_ms = time_from(measured.is_null() ? document.at("predicted_ms") : measured);
  found.point.costs.resident_mb = cost_from(document, "resident_mb");
  found.point.costs.energy_mj = cost_from(document, "energy_mj");
  const Json& quality = document.at("quality");
  if (!quality.is_null()) found.quality = quality.at("value").get<double>();
  return found;
}

}  // namespace

ServedProfile read_profile(std::string_view text) {
  Json document;
  try {
    document = parse_json(text);
  } catch (const std::invalid_argument& error) {
    throw ProfileError(std::string("the profile is not JSON: ") + error.what() + "; profile again");
  }
  if (!document.is_object() || document.value("format", Json()) != "adaptivenet-profile") {
    throw ProfileError("this is not a profile: it does not say 'adaptivenet-profile'");
  }
  if (document.value("version", Json()) != 2) {
    throw ProfileError("the profile has version " + shown(document.value("version", Json())) +
                       "; this library reads version 2");
  }
  ServedProfile profile;
  try {
    profile.pack = document.at("pack").at("digest").get<std::string>();
    profile.engine = document.at("device").at("engine").get<std::string>();
    profile.threads = threads_from(document.at("device").at("threads"));
    profile.whole_ms = time_from(document.at("reference").at("median_ms"));
    std::vector<Candidate> front;
    for (const Json& point : document.at("front")) front.push_back(candidate_from(point));
    std::stable_sort(front.begin(), front.end(), [](const Candidate& one, const Candidate& other) {
      return one.point.costs.latency_ms < other.point.costs.latency_ms;
    });
    std::vector<double> qualities;
    for (Candidate& candidate : front) {
      const auto as_good = [&](double quality) { return candidate.quality && quality >= *candidate.quality; };
      if (std::any_of(qualities.begin(), qualities.end(), as_good)) continue;
      if (candidate.quality) qualities.push_back(*candidate.quality);
      profile.points.push_back(std::move(candidate.point));
    }
  } catch (const Json::exception& error) {
    throw ProfileError(std::string("the profile is damaged: ") + error.what() + "; profile again");
  }
  if (profile.points.empty()) throw ProfileError("the profile has no point on its front; profile again");
  return profile;
}

void require_made_for(const ServedProfile& profile, const Pack& pack) {
  const bool bundled = !pack.bundled_from().empty() && profile.pack == pack.bundled_from();
  if (profile.pack != pack.digest() && !bundled) {
    throw ProfileError("the profile was made for another pack (" + profile.pack.substr(0, 12) + "…, this one is " +
                       pack.digest().substr(0, 12) + "…): profile this one");
  }
  try {
    for (const PointToServe& point : profile.points) pack.graph().require_subnet(point.subnet);
  } catch (const Error& error) {
    throw ProfileError(std::string("the profile is damaged: ") + error.what() + "; profile again");
  }
}

void require_same_device(const ServedProfile& profile, const std::string& engine, int threads) {
  const std::string otherwise = "; profile with these, or take it as of another device";
  if (profile.engine != engine) {
    throw ProfileError("the profile was made with the engine " + quote(profile.engine) + ", not " + quote(engine) +
                       otherwise);
  }
  if (profile.threads != threads) {
    throw ProfileError("the profile was made with " + std::to_string(profile.threads) + " threads, not " +
                       std::to_string(threads) + otherwise);
  }
}

}  // namespace adaptivenet
