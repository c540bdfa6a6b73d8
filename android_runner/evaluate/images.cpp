#include "evaluate/images.h"

#include <stdexcept>

#include "core/error.h"
#include "core/safetensors.h"

namespace adaptivenet {
namespace {

// One row of a tensor: the same shape, with 1 in front.
TensorView row(const TensorView& tensor, std::int64_t index) {
  TensorView one{tensor.type, tensor.data};
  one.type.shape[0] = 1;
  one.data += index * bytes_of(one.type);
  return one;
}

}  // namespace

Images::Images(const std::filesystem::path& folder, const std::vector<std::string>& digests) {
  for (const std::string& digest : digests) {
    const auto path = folder / (digest + ".safetensors");
    try {
      files_.emplace_back(path);
    } catch (const std::runtime_error& error) {
      throw DataError(std::string("images cannot be read: ") + error.what());
    }
    const auto tensors = read_safetensors(files_.back().bytes());
    const auto images = tensors.find("images");
    if (images == tensors.end() || images->second.type.shape.empty() || images->second.type.shape[0] < 1) {
      throw DataError(path.string() + " has no tensor 'images' with at least one image");
    }
    if (bytes_of(images->second.type) == 0) throw DataError(path.string() + " has images without pixels");
    const std::int64_t count = images->second.type.shape[0];
    const auto labels = tensors.find("labels");
    if (labels != tensors.end() && (labels->second.type.shape.empty() || labels->second.type.shape[0] != count)) {
      throw DataError(path.string() + " has " + std::to_string(count) + " images and another number of labels");
    }
    for (std::int64_t index = 0; index < count; ++index) {
      images_.push_back(row(images->second, index));
      labels_.push_back(labels == tensors.end() ? TensorView{} : row(labels->second, index));
    }
  }
}

}  // namespace adaptivenet
