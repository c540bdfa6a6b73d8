// What a program that serves reads of a profile (docs/profile.md): whom it is of, and the points of its front.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/pack.h"
#include "serving/loader.h"

namespace adaptivenet {

struct ServedProfile {
  std::string pack;  // the digest of the one that was profiled
  std::string engine;
  int threads = 0;
  double whole_ms = 0;  // what the whole network took
  // The points that are worth running, fastest first: each is reported to be better than all faster ones, or is not
  // reported on. It is what Front.rising gives.
  std::vector<PointToServe> points;
};

// The profile in `text`. Throws ProfileError for what is none, and for other versions.
ServedProfile read_profile(std::string_view text);

// Throws ProfileError unless the profile is of this pack or of the one that this is a bundle of.
void require_made_for(const ServedProfile& profile, const Pack& pack);

// Throws ProfileError when latencies were measured with another engine or another number of threads.
void require_same_device(const ServedProfile& profile, const std::string& engine, int threads);

}  // namespace adaptivenet
