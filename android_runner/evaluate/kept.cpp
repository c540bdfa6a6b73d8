#include "evaluate/kept.h"

#include <utility>

#include "core/error.h"

namespace adaptivenet {

std::vector<KeptOfImage> KeptFeatures::take(const Plan& plan, const DataName& data, std::size_t images) {
  Held held;
  if (const auto found = held_.find(data); found != held_.end()) {
    held = std::move(found->second);
    held_.erase(found);
  }
  std::vector<KeptOfImage> features(images);
  for (const auto& [key, path] : *plan.kept) {
    const auto found = held.paths.find(key);
    if (found == held.paths.end() || found->second != path) {
      throw FeaturesLost("the features under key " + std::to_string(key) +
                         ", which a plan begins from, are not kept here; evaluate without them");
    }
    for (std::size_t image = 0; image < images; ++image) features[image][key] = held.features.at(image).at(key);
  }
  return features;
}

void KeptFeatures::put(const Plan& plan, const DataName& data, std::vector<KeptOfImage> features) {
  if (!plan.keeps.empty()) held_[data] = {plan.keeps, std::move(features)};
}

}  // namespace adaptivenet
