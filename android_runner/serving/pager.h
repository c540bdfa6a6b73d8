// What is loaded, what it takes, and what goes first when memory runs short. Used by the loader's thread alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "serving/assembler.h"

namespace adaptivenet {

std::int64_t bytes_of(const std::vector<Piece>& pieces);

class Pager {
 public:
  // `front` has the pieces of each point, fastest first. With a limit of 0 bytes there is none, and nothing is kept
  // beside what runs; otherwise everything is kept for which there is room.
  Pager(std::vector<std::vector<Piece>> front, std::int64_t limit_bytes);

  const Programs& programs() const { return programs_; }
  bool holds(const std::string& piece) const { return programs_.contains(piece); }
  std::int64_t bytes() const { return bytes_; }

  // Whether pieces of so many bytes fit at all.
  bool fits(std::int64_t bytes) const { return limit_bytes_ == 0 || bytes <= limit_bytes_; }

  // Releases, of what neither runs nor is in `keep`, the least useful until `bytes` more fit; false when they do not.
  // Useful is what a point near `around` has, then what was needed last.
  bool make_room(std::int64_t bytes, const std::vector<Piece>& keep, std::optional<std::size_t> around);

  void add(const Piece& piece, ProgramPtr program);
  void replace(const std::string& piece, ProgramPtr program) {
    programs_.at(piece) = std::move(program);
    ++releases_;
  }
  std::uint64_t releases() const { return releases_; }  // how many programs were let go
  std::int64_t bytes_of(const std::string& piece) const { return held_.at(piece).bytes; }
  void touch(const std::vector<Piece>& pieces);  // they are needed now

  // To be called when nothing is to be loaded: without a limit, everything is released that does not run.
  void trim();

  // A neighbour of `point` whose missing pieces fit beside everything that is loaded, the slower one first. A point
  // for which `barred(point)` holds is left out.
  template <typename Barred>
  std::optional<std::size_t> ahead(std::size_t point, Barred&& barred) const {
    for (const std::size_t neighbour : {point + 1, point - 1}) {
      if (limit_bytes_ == 0 || neighbour >= front_.size() || barred(neighbour)) continue;
      const std::vector<Piece> missing = missing_of(front_[neighbour]);
      if (!missing.empty() && fits(bytes_ + adaptivenet::bytes_of(missing))) return neighbour;
    }
    return std::nullopt;
  }

  std::vector<Piece> missing_of(const std::vector<Piece>& pieces) const;

 private:
  struct Held {
    std::int64_t bytes = 0;
    std::uint64_t needed = 0;  // when, counted in calls of `touch`
  };

  void release(const std::string& piece);
  std::size_t distance(const std::string& piece, std::optional<std::size_t> around) const;

  std::vector<std::vector<Piece>> front_;
  std::int64_t limit_bytes_;
  std::int64_t bytes_ = 0;
  std::uint64_t touches_ = 0;
  std::uint64_t releases_ = 0;
  Programs programs_;
  std::map<std::string, Held> held_;
};

}  // namespace adaptivenet
