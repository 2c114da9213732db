// FUSE over io_uring (Linux 6.14 and later): one call gives the kernel a batch of replies and has
// it hand over the requests that wait. INIT, INTERRUPT, FORGET and notifications stay on /dev/fuse.
//
// Slots are offered to the kernel, a number of them for each processor that the machine may have.
// From then on a slot is the kernel's or ours: ours when its command has completed with a request,
// the kernel's again with the answer, which is the command for the next request. All copying
// happens while this thread is in the kernel for it (IORING_SETUP_DEFER_TASKRUN), so nothing
// changes in a slot unless `turn` is called.
//
// The kernel writes a request in three places: header and first argument at the slot's beginning,
// the rest where payloads are. They are put together as /dev/fuse would give them; the data of a
// WRITE lie where they belong and are not touched.
//
// The ring has no descriptor: it is registered with this thread, and ends with it. Were it to live
// on in a child that is about to exec, or in a process whose other threads wait in the kernel,
// requests that only this thread can take would wait for ever: no abort of the mount ends them.
#include "fuse.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/io_uring.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace wharf {
namespace {

// linux/fuse.h of Linux 6.14: struct fuse_uring_req_header with its fuse_uring_ent_in_out, struct
// fuse_uring_cmd_req, and enum fuse_uring_cmd.
struct RingHeader {
  uint8_t inOut[128];
  uint8_t firstArgument[128];
  uint64_t flags;
  uint64_t commitId;
  uint32_t payloadBytes;
  uint32_t padding;
  uint64_t reserved;
};
static_assert(sizeof(RingHeader) == 288 && sizeof(RingHeader) <= requestAt);
struct RingCommand {
  uint64_t flags;
  uint64_t commitId;
  uint16_t queue;
  uint8_t padding[6];
};
static_assert(sizeof(RingCommand) == 24);
constexpr uint32_t registerOperation = 1;
constexpr uint32_t answerOperation = 2;  // FUSE_IO_URING_CMD_COMMIT_AND_FETCH

// linux/io_uring.h of Linux 6.5.
constexpr uint32_t setupNoMmap = 1u << 14;
constexpr uint32_t setupRegisteredOnly = 1u << 15;
constexpr uint32_t useRegisteredRing = 1u << 31;

constexpr uint32_t setupFlags = IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL |
                                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                IORING_SETUP_TASKRUN_FLAG | setupNoMmap | setupRegisteredOnly;
constexpr size_t commandBytes = 2 * sizeof(io_uring_sqe);

uint32_t load(const uint32_t *place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }
void store(uint32_t *place, uint32_t value) { __atomic_store_n(place, value, __ATOMIC_RELEASE); }

uint32_t powerOfTwo(uint32_t count) {
  uint32_t power = 1;
  while (power < count) power *= 2;
  return power;
}

// What struct io_rings takes before its arrays, and more.
constexpr size_t ringsHeadBytes = 4096;

long registerRing(int ring, uint32_t operation, void *argument) {
  return syscall(__NR_io_uring_register, ring, operation | useRegisteredRing, argument, 1);
}

long enterRing(int ring, uint32_t commands) {
  return syscall(__NR_io_uring_enter, ring, commands, 0,
                 IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, nullptr, 0);
}

RingHeader *headerOf(const Slots &slots, uint32_t index) {
  return reinterpret_cast<RingHeader *>(slots.at(index));
}

}  // namespace

int Ring::open(int device, Slots *slots, uint32_t first, uint32_t each) {
  device_ = device;
  slots_ = slots;
  first_ = first;
  each_ = each;
  // A slot has one command under way at most, so neither queue is ever full.
  const uint32_t entries = powerOfTwo(static_cast<uint32_t>(slots->count()) - first);
  const auto pageBytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t ringsAt = (entries * commandBytes + pageBytes - 1) / pageBytes * pageBytes;
  memoryBytes_ = ringsAt + ringsHeadBytes + entries * sizeof(uint32_t) +
                 2 * entries * sizeof(io_uring_cqe);
  void *memory = mmap(nullptr, memoryBytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return -errno;
  memory_ = static_cast<uint8_t *>(memory);
  madvise(memory, memoryBytes_, MADV_DONTFORK);
  io_uring_params params{};
  params.flags = setupFlags;
  // Their last fields are addresses, with setupNoMmap.
  params.sq_off.resv2 = reinterpret_cast<uint64_t>(memory_);
  params.cq_off.resv2 = reinterpret_cast<uint64_t>(memory_ + ringsAt);
  ring_ = static_cast<int>(syscall(__NR_io_uring_setup, entries, &params));
  eventFd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  // Where a filter of system calls forbids one of these, that has to show before INIT is answered.
  if (ring_ < 0 || eventFd_ < 0 || registerRing(ring_, IORING_REGISTER_EVENTFD, &eventFd_) < 0 ||
      enterRing(ring_, 0) < 0) {
    const int failure = -errno;
    close();
    closeEvent();
    return failure;
  }
  uint8_t *base = memory_ + ringsAt;
  const auto word = [base](uint32_t at) { return reinterpret_cast<uint32_t *>(base + at); };
  submitTail_ = word(params.sq_off.tail);
  submitFlags_ = word(params.sq_off.flags);
  submitMask_ = params.sq_entries - 1;
  for (uint32_t at = 0; at < params.sq_entries; at += 1) word(params.sq_off.array)[at] = at;
  completeHead_ = word(params.cq_off.head);
  completeTail_ = word(params.cq_off.tail);
  completeFlags_ = word(params.cq_off.flags);
  completeMask_ = params.cq_entries - 1;
  completions_ = reinterpret_cast<io_uring_cqe *>(base + params.cq_off.cqes);
  return 0;
}

int Ring::start() {
  const auto queues = (static_cast<uint32_t>(slots_->count()) - first_) / each_;
  for (uint32_t round = 0; round < each_; round += 1) {
    for (uint32_t queue = queues; queue > 0; queue -= 1) {
      const uint32_t index = first_ + (queue - 1) * each_ + round;
      uint8_t *slot = slots_->at(index);
      iovec parts[2] = {{slot, sizeof(RingHeader)},
                        {slot + replyAt, slots_->slotBytes() - replyAt}};
      io_uring_sqe *entry = command(index, registerOperation, 0);
      entry->addr = reinterpret_cast<uint64_t>(parts);
      entry->len = 2;
      while (pending_ > 0)
        if (enter() < 0 && errno != EINTR && errno != EAGAIN) return -errno;
      reap();
      // The kernel uses the ring once each queue has a slot, and keeps to /dev/fuse where one of
      // the first ones is refused: so those come one by one, beginning with queues that may not be
      // there. A later one that is refused is a slot less.
      if (round == 0 && failure_ != 0) return failure_;
    }
  }
  return 0;
}

void Ring::close() {
  // The kernel lets go of all slots by itself.
  io_uring_rsrc_update place{};
  place.offset = static_cast<uint32_t>(ring_);
  if (ring_ >= 0) registerRing(ring_, IORING_UNREGISTER_RING_FDS, &place);
  ring_ = -1;
  if (memory_ != nullptr) munmap(memory_, memoryBytes_);
  memory_ = nullptr;
}

void Ring::closeEvent() {
  if (eventFd_ >= 0) ::close(eventFd_);
  eventFd_ = -1;
}

void Ring::clearEvent() {
  uint64_t count;
  while (read(eventFd_, &count, sizeof count) < 0 && errno == EINTR) continue;
}

void Ring::setSignals(bool on) {
  if (ring_ < 0) return;
  store(completeFlags_, on ? 0 : IORING_CQ_EVENTFD_DISABLED);
  // Who asks `hasWork` afterwards sees all that came without a signal.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint32_t Ring::take(uint32_t *ready, uint32_t max) {
  turn();
  const auto count = static_cast<uint32_t>(
      std::min<size_t>(max, arrived_.size() - arrivedAt_));
  std::copy_n(arrived_.begin() + static_cast<ptrdiff_t>(arrivedAt_), count, ready);
  arrivedAt_ += count;
  if (arrivedAt_ == arrived_.size()) {
    arrived_.clear();
    arrivedAt_ = 0;
  }
  return count;
}

int Ring::answer(uint32_t index, int32_t error, uint32_t payloadBytes) {
  slots_->end(index);
  if (ring_ < 0) return -ENODEV;
  const uint64_t unique = slots_->unique(index);
  const OutHeader out{static_cast<uint32_t>(sizeof(OutHeader)) + payloadBytes, error, unique};
  RingHeader *header = headerOf(*slots_, index);
  memcpy(header->inOut, &out, sizeof out);
  header->payloadBytes = payloadBytes;
  command(index, answerOperation, header->commitId);
  if (slots_->isLarge(index)) large_.push_back(index);
  return 0;
}

void Ring::turn() {
  if (ring_ < 0) return;
  if (pending_ > 0 || hasKernelWork()) enter();
  reap();
  if (pending_ > 0) return;
  // The kernel has copied what was in these. One in which the next request lies is busy again.
  for (const uint32_t index : large_)
    if (!slots_->isBusy(index)) slots_->trim(index);
  large_.clear();
}

bool Ring::hasWork() const {
  return ring_ >= 0 &&
         (pending_ > 0 || arrivedAt_ < arrived_.size() || hasCompletions() || hasKernelWork());
}

bool Ring::hasKernelWork() const { return (load(submitFlags_) & IORING_SQ_TASKRUN) != 0; }

bool Ring::hasCompletions() const { return load(completeTail_) != *completeHead_; }

// The next command, with all but what REGISTER has in addition.
io_uring_sqe *Ring::command(uint32_t index, uint32_t operation, uint64_t commitId) {
  const uint32_t tail = *submitTail_;
  auto *entry = reinterpret_cast<io_uring_sqe *>(memory_ + (tail & submitMask_) * commandBytes);
  memset(entry, 0, commandBytes);
  entry->opcode = IORING_OP_URING_CMD;
  entry->fd = device_;
  entry->cmd_op = operation;
  entry->user_data = index;
  const auto queue = static_cast<uint16_t>((index - first_) / each_);
  const RingCommand request{0, commitId, queue, {}};
  memcpy(entry->cmd, &request, sizeof request);
  store(submitTail_, tail + 1);
  pending_ += 1;
  return entry;
}

// What the kernel has no memory for now goes with the next turn.
long Ring::enter() {
  const long count = enterRing(ring_, pending_);
  if (count > 0) pending_ -= static_cast<uint32_t>(count);
  return count;
}

void Ring::reap() {
  uint32_t head = *completeHead_;
  const uint32_t tail = load(completeTail_);
  for (; head != tail; head += 1) {
    const io_uring_cqe &completion = completions_[head & completeMask_];
    const auto index = static_cast<uint32_t>(completion.user_data);
    if (completion.res < 0) {
      failure_ = completion.res;  // The mount ends, as /dev/fuse will say, or has never begun.
      continue;
    }
    lay(index);
    arrived_.push_back(index);
  }
  store(completeHead_, head);
}

// Puts the request together. One that can't be right gets length 0, which its reader refuses.
void Ring::lay(uint32_t index) {
  uint8_t *slot = slots_->at(index);
  uint8_t *request = slot + requestAt;
  RingHeader *header = headerOf(*slots_, index);
  memcpy(request, header->inOut, inHeaderBytes);
  uint32_t length;
  memcpy(&length, request, sizeof length);
  const size_t payload = header->payloadBytes;
  const size_t first = length - inHeaderBytes - payload;
  if (length < inHeaderBytes + payload || first > sizeof header->firstArgument ||
      length > slots_->slotBytes() - requestAt) {
    length = 0;
    memcpy(request, &length, sizeof length);
  } else {
    uint8_t *rest = request + inHeaderBytes + first;
    if (payload > 0 && rest != slot + replyAt) memmove(rest, slot + replyAt, payload);
    memcpy(request + inHeaderBytes, header->firstArgument, first);
  }
  slots_->begin(index, payload);
}

}  // namespace wharf
