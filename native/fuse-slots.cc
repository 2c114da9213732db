// The memory that FUSE requests and replies lie in.
#include "fuse.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace wharf {
namespace {

// A slot with more than this is large; so many of them keep their memory while they are free.
constexpr size_t largeBytes = 128 * 1024;
constexpr uint32_t largeKeptMax = 16;

}  // namespace

int Slots::open(uint32_t count, size_t slotBytes) {
  void *arena = mmap(nullptr, slotBytes * count, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) return -errno;
  // A huge page would make a slot that held 100 bytes cost 2 MiB.
  madvise(arena, slotBytes * count, MADV_NOHUGEPAGE);
  arena_ = static_cast<uint8_t *>(arena);
  slotBytes_ = slotBytes;
  slots_.resize(count);
  return 0;
}

void Slots::unmap() {
  munmap(arena_, bytes());
  arena_ = nullptr;
}

void Slots::begin(uint32_t index, size_t bytes) {
  Slot &slot = slots_[index];
  memcpy(&slot.unique, at(index) + requestAt + uniqueAt, sizeof slot.unique);
  slot.busy = true;
  busyCount_ += 1;
  touched(index, bytes);
}

void Slots::touched(uint32_t index, size_t bytes) {
  Slot &slot = slots_[index];
  if (bytes <= largeBytes || slot.large) return;
  slot.large = true;
  largeCount_ += 1;
}

void Slots::end(uint32_t index) {
  slots_[index].busy = false;
  busyCount_ -= 1;
}

void Slots::trim(uint32_t index) {
  Slot &slot = slots_[index];
  if (!slot.large || largeCount_ <= largeKeptMax) return;
  madvise(at(index) + replyAt, slotBytes_ - replyAt, MADV_DONTNEED);
  slot.large = false;
  largeCount_ -= 1;
}

}  // namespace wharf
