// What the FUSE files share: the slots that requests lie in, the ring, and how work that the kernel
// may keep waiting leaves the loop.
#pragma once

#include "wharf.h"

#include <functional>
#include <sys/types.h>
#include <vector>

struct io_uring_cqe;
struct io_uring_sqe;

namespace wharf {

struct PoolTask {
  std::function<int64_t()> work;
  int64_t result = 0;
  napi_async_work handle = nullptr;
  napi_deferred deferred = nullptr;
};

// Runs the task on libuv's thread pool and deletes it. -> promise of its result
napi_value runOnPool(napi_env env, const char *name, PoolTask *task);

void registerFuseMount(napi_env env, napi_value exports);

// linux/fuse.h: struct fuse_out_header, and the size and parts of struct fuse_in_header.
struct OutHeader {
  uint32_t length;
  int32_t error;
  uint64_t unique;
};
constexpr size_t inHeaderBytes = 40;
constexpr size_t uniqueAt = 8;
// A request lies so in its slot that the payload of a WRITE (behind fuse_in_header and
// fuse_write_in, 80 bytes) and the payload of every reply begin on the same page boundary.
constexpr size_t replyAt = 4096;
constexpr size_t requestAt = replyAt - 80;

struct Slot {
  uint64_t unique = 0;
  bool busy = false;
  bool large = false;
};

// Slots of one arena. A slot is free or busy: busy when a request has come into it, and free again
// when that is answered or forgotten, once. Memory that large payloads have touched is given back
// beyond a bound.
class Slots {
public:
  // 0 or -errno
  int open(uint32_t count, size_t slotBytes);
  // Its memory stays until `unmap`: TypeScript may still look at it.
  void unmap();

  uint8_t *at(uint32_t index) const { return arena_ + index * slotBytes_; }
  size_t slotBytes() const { return slotBytes_; }
  size_t bytes() const { return slotBytes_ * slots_.size(); }
  size_t count() const { return slots_.size(); }
  bool isBusy(uint32_t index) const { return index < slots_.size() && slots_[index].busy; }
  bool isLarge(uint32_t index) const { return slots_[index].large; }
  bool isIdle() const { return busyCount_ == 0; }
  uint64_t unique(uint32_t index) const { return slots_[index].unique; }

  // The request of so many bytes that lies there is under way.
  void begin(uint32_t index, size_t bytes);
  // A payload of so many bytes is, or was, in it.
  void touched(uint32_t index, size_t bytes);
  void end(uint32_t index);
  // Nobody needs what is in it.
  void trim(uint32_t index);

private:
  uint8_t *arena_ = nullptr;
  size_t slotBytes_ = 0;
  std::vector<Slot> slots_;
  uint32_t busyCount_ = 0;
  uint32_t largeCount_ = 0;
};

// Requests over io_uring. See fuse-ring.cc.
class Ring {
public:
  // Slots from `first` on, `each` for every processor that the machine may have. The kernel's FUSE
  // does not know of them yet. 0 or -errno
  int open(int device, Slots *slots, uint32_t first, uint32_t each);
  // Offers the slots to the kernel, which has answered INIT. From here on requests come, or -errno.
  int start();
  void close();
  // Apart, because the loop may still look at it.
  void closeEvent();

  bool owns(uint32_t index) const { return index >= first_; }
  // Readable when the kernel has something and `setSignals` asks for it.
  int eventFd() const { return eventFd_; }
  void clearEvent();
  void setSignals(bool on);

  // Requests that have come, at most `max` of them.
  uint32_t take(uint32_t *ready, uint32_t max);
  // The reply in that slot goes to the kernel with the next turn, and the slot as well.
  // 0 or -errno
  int answer(uint32_t index, int32_t error, uint32_t payloadBytes);
  // Gives the kernel the answers, and has it hand over requests.
  void turn();
  // Whether a turn, or `take`, has something to do now.
  bool hasWork() const;

private:
  io_uring_sqe *command(uint32_t index, uint32_t operation, uint64_t commitId);
  long enter();
  void reap();
  void lay(uint32_t index);
  bool hasKernelWork() const;
  bool hasCompletions() const;

  int ring_ = -1;  // its place among those that are registered with this thread
  int eventFd_ = -1;
  int device_ = -1;
  Slots *slots_ = nullptr;
  uint32_t first_ = UINT32_MAX;
  uint32_t each_ = 0;
  int failure_ = 0;
  uint8_t *memory_ = nullptr;  // commands, then both rings
  size_t memoryBytes_ = 0;
  uint32_t *submitTail_ = nullptr;
  uint32_t *submitFlags_ = nullptr;
  uint32_t submitMask_ = 0;
  uint32_t *completeHead_ = nullptr;
  uint32_t *completeTail_ = nullptr;
  uint32_t *completeFlags_ = nullptr;
  uint32_t completeMask_ = 0;
  io_uring_cqe *completions_ = nullptr;
  uint32_t pending_ = 0;            // commands that the kernel has not got yet
  std::vector<uint32_t> arrived_;   // slots with requests that nobody has taken yet
  size_t arrivedAt_ = 0;
  std::vector<uint32_t> large_;     // answered slots that may give memory back
};

}  // namespace wharf
