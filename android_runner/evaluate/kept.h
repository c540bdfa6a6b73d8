// Features that a session keeps from one plan to the next, by data, image and key.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "engines/engine.h"
#include "evaluate/plan.h"

namespace adaptivenet {

using KeptOfImage = std::map<int, FeaturePtr>;
using DataName = std::vector<std::string>;  // the digests of the files of images

class KeptFeatures {
 public:
  // Takes out the features that `plan` begins from, for each image. Afterwards nothing is kept of this data, so that an
  // evaluation that fails half way leaves nothing behind. Throws FeaturesLost when a feature is not there or was made
  // by other blocks.
  std::vector<KeptOfImage> take(const Plan& plan, const DataName& data, std::size_t images);

  // Keeps the features that `plan` left to be kept, for each image.
  void put(const Plan& plan, const DataName& data, std::vector<KeptOfImage> features);

  void clear() { held_.clear(); }

 private:
  struct Held {
    KeptPaths paths;
    std::vector<KeptOfImage> features;
  };
  std::map<DataName, Held> held_;
};

}  // namespace adaptivenet
