#include "serving/pager.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace adaptivenet {
namespace {

bool has(const std::vector<Piece>& pieces, const std::string& name) {
  return std::any_of(pieces.begin(), pieces.end(), [&](const Piece& piece) { return piece.name == name; });
}

}  // namespace

std::int64_t bytes_of(const std::vector<Piece>& pieces) {
  std::int64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.bytes;
  return bytes;
}

Pager::Pager(std::vector<std::vector<Piece>> front, std::int64_t limit_bytes)
    : front_(std::move(front)), limit_bytes_(limit_bytes) {}

bool Pager::make_room(std::int64_t bytes, const std::vector<Piece>& keep, std::optional<std::size_t> around) {
  while (!fits(bytes_ + bytes)) {
    const std::string* worst = nullptr;
    std::tuple<std::size_t, std::uint64_t> badness;
    for (const auto& [name, program] : programs_) {
      if (program.use_count() > 1 || has(keep, name)) continue;  // it runs, or is about to
      const std::tuple<std::size_t, std::uint64_t> own(distance(name, around), UINT64_MAX - held_.at(name).needed);
      if (worst == nullptr || own > badness) std::tie(worst, badness) = std::pair(&name, own);
    }
    if (worst == nullptr) return false;
    release(std::string(*worst));
  }
  return true;
}

void Pager::add(const Piece& piece, ProgramPtr program) {
  bytes_ += piece.bytes;
  held_[piece.name] = {piece.bytes, touches_};
  programs_[piece.name] = std::move(program);
}

void Pager::touch(const std::vector<Piece>& pieces) {
  ++touches_;
  for (const Piece& piece : pieces) held_.at(piece.name).needed = touches_;
}

void Pager::trim() {
  if (limit_bytes_ != 0) return;
  std::vector<std::string> unused;
  for (const auto& [name, program] : programs_) {
    if (program.use_count() == 1) unused.push_back(name);
  }
  for (const std::string& name : unused) release(name);
}

std::vector<Piece> Pager::missing_of(const std::vector<Piece>& pieces) const {
  std::vector<Piece> missing;
  for (const Piece& piece : pieces) {
    if (!holds(piece.name)) missing.push_back(piece);
  }
  return missing;
}

void Pager::release(const std::string& piece) {
  bytes_ -= held_.at(piece).bytes;
  held_.erase(piece);
  programs_.erase(piece);
  ++releases_;
}

std::size_t Pager::distance(const std::string& piece, std::optional<std::size_t> around) const {
  std::size_t nearest = front_.size();
  for (std::size_t point = 0; around && point < front_.size(); ++point) {
    if (!has(front_[point], piece)) continue;
    nearest = std::min(nearest, point > *around ? point - *around : *around - point);
  }
  return nearest;
}

}  // namespace adaptivenet
