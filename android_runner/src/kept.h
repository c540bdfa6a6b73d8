// Features that a session keeps from one plan to the next, by data, image and key.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "engine.h"
#include "plan.h"

namespace adaptivenet {

using KeptOfImage = std::map<int, FeaturePtr>;
using DataName = std::vector<std::string>;  // the digests of the files of images

class KeptFeatures {
 public:
  // The features that `plan` begins from, for each image. They are not kept any longer, and neither is what else was
  // kept of this data: an evaluation that fails half way leaves nothing behind. Throws FeaturesLost when one is not
  // there, or was made by other blocks.
  std::vector<KeptOfImage> take(const Plan& plan, const DataName& data, std::size_t images);

  // Keeps what `plan` has left, for each image.
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
