#include "serving/freed.h"

#include <cstddef>
#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace adaptivenet {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
namespace {

constexpr std::size_t kPiece = 100 << 10;  // below the least size for which malloc maps memory of its own
constexpr std::size_t kLook = 32;          // pieces between two looks at how much malloc has

struct Piece {
  Piece* next;
};

}  // namespace

// glibc gives every thread an arena of its own. `malloc_trim` gives back what is free between other things in all
// arenas, but what is free at the end only in the main one; and once something large was freed, up to twice as much as
// that is kept there. So all that is free in this thread's arena is taken, in pieces that are not written to, until the
// arena has to grow. With all of them but the last freed again, nothing is free at its end.
void give_freed_memory_back() {
  Piece* pieces = nullptr;
  const auto begun = mallinfo2();
  for (std::size_t taken = 0; taken * kPiece <= begun.fordblks; ++taken) {
    auto* const piece = static_cast<Piece*>(std::malloc(kPiece));
    if (piece == nullptr) break;
    piece->next = pieces;
    pieces = piece;
    if (taken % kLook == 0 && mallinfo2().arena > begun.arena) break;
  }
  while (pieces != nullptr && pieces->next != nullptr) {
    Piece* const freed = pieces->next;
    pieces->next = freed->next;
    std::free(freed);
  }
  malloc_trim(0);
  std::free(pieces);
}
#elif defined(__GLIBC__)
void give_freed_memory_back() { malloc_trim(0); }
#else
void give_freed_memory_back() {}
#endif

}  // namespace adaptivenet
