// The images and labels of a request: one or several safetensors files, as one sequence.
#pragma once

#include <filesystem>
#include <vector>

#include "core/files.h"
#include "core/tensor.h"

namespace adaptivenet {

class Images {
 public:
  // The files SHA256.safetensors in `folder`. Throws DataError when one is not there or not as docs/phone.md says.
  Images(const std::filesystem::path& folder, const std::vector<std::string>& digests);

  std::size_t size() const { return images_.size(); }
  const TensorView& image(std::size_t index) const { return images_[index]; }  // the batch comes first and has size 1
  const TensorView& label(std::size_t index) const { return labels_[index]; }  // its data is null where there is none

 private:
  std::vector<MappedFile> files_;
  std::vector<TensorView> images_;
  std::vector<TensorView> labels_;
};

}  // namespace adaptivenet
