// The FUSE device on libuv's loop. Requests are read into slots of one arena that TypeScript sees
// as an ArrayBuffer; one call tells of a batch; replies are written from the slots.
//
// A slot is free or busy. It becomes busy when a request is read into it and free again when it is
// answered or forgotten, once. Without a free slot the device is not read: that is the bound of
// what is under way. Memory that large requests have touched is given back beyond a bound.
//
// When all is answered the loop may turn for a while without sleeping (an idle handle), because
// waking up costs more than a request does. Timers and other I/O have their turn meanwhile. The
// window opens when a request follows closely on an answer and halves each time it was spent in
// vain, so that an idle mount costs nothing and a slow one next to nothing.
#include "fuse.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>
#include <vector>

namespace wharf {
namespace {

// linux/fuse.h: struct fuse_out_header, and the place of `unique` in struct fuse_in_header.
struct OutHeader {
  uint32_t length;
  int32_t error;
  uint64_t unique;
};
constexpr size_t uniqueAt = 8;
// A request lies so in its slot that the payload of a WRITE (behind fuse_in_header and
// fuse_write_in, 80 bytes) and the payload of every reply begin on the same page boundary.
constexpr size_t replyAt = 4096;
constexpr size_t requestAt = replyAt - 80;
// What the kernel refuses as the error of a reply; it would leave the request waiting for ever.
constexpr int32_t errorMax = 511;

constexpr uint32_t batchMax = 64;
constexpr uint64_t turnNsMax = 1000000;  // then the rest of the loop has its turn
constexpr uint64_t windowNsMin = 4000;
// A slot with more than this is large; so many of them keep their memory while they are free.
constexpr size_t largeBytes = 128 * 1024;
constexpr uint32_t largeKeptMax = 16;

struct Slot {
  uint64_t unique = 0;
  bool busy = false;
  bool large = false;
};

struct Device {
  napi_env env = nullptr;
  napi_async_context context = nullptr;
  napi_ref callback = nullptr;
  napi_ref readyReference = nullptr;
  uv_poll_t poll{};
  uv_idle_t idle{};
  int fd = -1;
  uint8_t *arena = nullptr;
  size_t arenaBytes = 0;
  size_t slotBytes = 0;
  std::vector<Slot> slots;
  std::vector<uint32_t> free;  // the last one was used last, and is warm
  uint32_t *ready = nullptr;   // TypeScript's view of a batch
  uint32_t largeCount = 0;
  uint64_t windowNsMax = 0;
  uint64_t windowNs = 0;
  uint64_t answeredNs = 0;
  uint32_t batchLimit = 1;
  bool serving = false;
  bool watching = false;
  bool closing = false;
  bool environmentGone = false;
  int openHandles = 2;
  int owners = 2;  // the loop's handles, and the arena that TypeScript holds
};

uint64_t nowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

Device *deviceOf(napi_env env, napi_value value) {
  void *data = nullptr;
  napi_get_value_external(env, value, &data);
  return static_cast<Device *>(data);
}

// Tells TypeScript of `count` requests in `ready`, or of the end with a negative errno. Microtasks
// run before it returns, so what can be answered without waiting is answered then.
void tell(Device *device, int32_t count) {
  napi_env env = device->env;
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  napi_value callback, global;
  napi_get_reference_value(env, device->callback, &callback);
  napi_get_global(env, &global);
  napi_value argument = number(env, count);
  if (napi_make_callback(env, device->context, global, callback, 1, &argument, nullptr) ==
      napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

void onReadable(uv_poll_t *poll, int status, int events);
void onIdle(uv_idle_t *idle);
void onAllAnswered(Device *device);

void watch(Device *device, bool on) {
  if (device->closing || device->watching == on) return;
  device->watching = on;
  if (on) {
    uv_poll_start(&device->poll, UV_READABLE, onReadable);
  } else {
    uv_poll_stop(&device->poll);
    uv_idle_stop(&device->idle);
  }
}

void disown(Device *device) {
  device->owners -= 1;
  if (device->owners == 0) delete device;
}

void onClosed(uv_handle_t *handle) {
  auto *device = static_cast<Device *>(handle->data);
  device->openHandles -= 1;
  if (device->openHandles > 0) return;
  close(device->fd);
  device->fd = -1;
  // The callback holds the arena, which goes when nobody looks at it any more.
  if (!device->environmentGone) {
    napi_delete_reference(device->env, device->callback);
    napi_delete_reference(device->env, device->readyReference);
    napi_async_destroy(device->env, device->context);
  }
  disown(device);
}

void onCleanup(void *data);

// Nothing is read any more; the descriptor is closed as soon as the loop has let go of it.
void closeDevice(Device *device) {
  if (device->closing) return;
  watch(device, false);
  device->closing = true;
  if (!device->environmentGone) napi_remove_env_cleanup_hook(device->env, onCleanup, device);
  uv_close(reinterpret_cast<uv_handle_t *>(&device->poll), onClosed);
  uv_close(reinterpret_cast<uv_handle_t *>(&device->idle), onClosed);
}

// The process ends while the mount lives: TypeScript must not be called any more.
void onCleanup(void *data) {
  auto *device = static_cast<Device *>(data);
  device->environmentGone = true;
  closeDevice(device);
}

void tellEnd(Device *device, int32_t error) {
  closeDevice(device);
  tell(device, error);
}

// Reads requests while there are some, slots are free and the batch is not full. The batch grows
// while requests keep coming, so that a lone one is not followed by a vain look for the next. A
// negative errno is the end of the mount.
int32_t readBatch(Device *device) {
  uint32_t count = 0;
  while (count < device->batchLimit && !device->free.empty()) {
    const uint32_t index = device->free.back();
    uint8_t *request = device->arena + index * device->slotBytes + requestAt;
    const ssize_t bytes = read(device->fd, request, device->slotBytes - requestAt);
    if (bytes < 0) {
      if (errno == EINTR || errno == ENOENT) continue;  // ENOENT: that request was interrupted
      if (errno == EAGAIN || count > 0) break;          // an error comes again
      return -errno;
    }
    if (bytes == 0) return count > 0 ? static_cast<int32_t>(count) : -ENODEV;
    device->free.pop_back();
    Slot &slot = device->slots[index];
    memcpy(&slot.unique, request + uniqueAt, sizeof slot.unique);
    slot.busy = true;
    if (static_cast<size_t>(bytes) > largeBytes && !slot.large) {
      slot.large = true;
      device->largeCount += 1;
    }
    device->ready[count] = index;
    count += 1;
  }
  const bool more = count == device->batchLimit;
  device->batchLimit = more ? std::min(2 * device->batchLimit, batchMax) : 1;
  return static_cast<int32_t>(count);
}

bool isAllAnswered(const Device *device) { return device->free.size() == device->slots.size(); }

// Serves what is there, for a bounded time. Gives the number of requests, or -1 at the end.
int32_t serve(Device *device) {
  int32_t served = 0;
  uint64_t until = 0;
  device->serving = true;
  while (!device->closing) {
    const int32_t count = readBatch(device);
    if (count < 0) {
      tellEnd(device, count);
      return -1;
    }
    if (count == 0) break;
    const uint64_t now = nowNs();
    if (until == 0) until = now + turnNsMax;
    served += count;
    tell(device, count);
    if (now >= until) break;
  }
  device->serving = false;
  if (device->closing) return -1;
  if (device->free.empty()) watch(device, false);
  return served;
}

void onReadable(uv_poll_t *poll, int status, int) {
  auto *device = static_cast<Device *>(poll->data);
  if (status < 0) return tellEnd(device, status);
  const uint64_t before = device->answeredNs;
  const uint64_t began = device->windowNsMax == 0 ? 0 : nowNs();
  const int32_t served = serve(device);
  if (served <= 0 || device->windowNsMax == 0) return;
  // Falling asleep and waking up are part of the time since the last answer: it counts half.
  if (began - before <= 2 * device->windowNsMax) device->windowNs = device->windowNsMax;
  if (isAllAnswered(device)) onAllAnswered(device);
}

void onAllAnswered(Device *device) {
  device->answeredNs = nowNs();
  if (device->windowNs > 0 && device->watching) uv_idle_start(&device->idle, onIdle);
}

void onIdle(uv_idle_t *idle) {
  auto *device = static_cast<Device *>(idle->data);
  const int32_t served = serve(device);
  if (served < 0) return;
  if (served > 0) {
    device->windowNs = device->windowNsMax;
    device->answeredNs = nowNs();
    if (!isAllAnswered(device)) uv_idle_stop(idle);
  } else if (nowNs() - device->answeredNs >= device->windowNs) {
    device->windowNs = device->windowNs / 2 < windowNsMin ? 0 : device->windowNs / 2;
    uv_idle_stop(idle);
  }
}

void release(Device *device, uint32_t index) {
  Slot &slot = device->slots[index];
  slot.busy = false;
  if (slot.large && device->largeCount > largeKeptMax) {
    uint8_t *payload = device->arena + index * device->slotBytes + replyAt;
    madvise(payload, device->slotBytes - replyAt, MADV_DONTNEED);
    slot.large = false;
    device->largeCount -= 1;
  }
  device->free.push_back(index);
  watch(device, true);
  if (!device->serving && !device->closing && device->windowNsMax > 0 && isAllAnswered(device))
    onAllAnswered(device);
}

// The arena has no reader any more.
void onArenaGone(napi_env, void *arena, void *data) {
  auto *device = static_cast<Device *>(data);
  munmap(arena, device->arenaBytes);
  device->arena = nullptr;
  disown(device);
}

// (fd, slotCount, slotBytes, pollMicroseconds, ready: Uint32Array, callback)
//   -> {device, arena: ArrayBuffer} or -errno; the descriptor belongs to the device from now on
napi_value openDevice(napi_env env, napi_callback_info info) {
  Arguments<6> arguments(env, info);
  const auto slotCount = static_cast<uint32_t>(integerOf(env, arguments[1]));
  const auto slotBytes = static_cast<size_t>(integerOf(env, arguments[2]));
  const Bytes ready = bytesOf(env, arguments[4]);
  if (slotCount == 0 || slotBytes % replyAt != 0 || ready.length < batchMax * sizeof(uint32_t))
    return number(env, -EINVAL);
  const size_t arenaBytes = slotBytes * slotCount;
  void *arena = mmap(nullptr, arenaBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) return number(env, -errno);
  // A huge page would make a slot that held 100 bytes cost 2 MiB.
  madvise(arena, arenaBytes, MADV_NOHUGEPAGE);

  auto *device = new Device();
  device->env = env;
  device->fd = static_cast<int>(integerOf(env, arguments[0]));
  device->arena = static_cast<uint8_t *>(arena);
  device->arenaBytes = arenaBytes;
  device->slotBytes = slotBytes;
  device->slots.resize(slotCount);
  for (uint32_t index = slotCount; index > 0; index -= 1) device->free.push_back(index - 1);
  device->ready = reinterpret_cast<uint32_t *>(ready.data);
  device->windowNsMax = static_cast<uint64_t>(integerOf(env, arguments[3])) * 1000;
  fcntl(device->fd, F_SETFL, fcntl(device->fd, F_GETFL) | O_NONBLOCK);
  fcntl(device->fd, F_SETFD, FD_CLOEXEC);

  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  uv_poll_init(loop, &device->poll, device->fd);
  uv_idle_init(loop, &device->idle);
  device->poll.data = device->idle.data = device;
  napi_value name, result, external, buffer;
  napi_create_string_utf8(env, "wharf.fuse", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &device->context);
  napi_create_reference(env, arguments[4], 1, &device->readyReference);
  napi_create_reference(env, arguments[5], 1, &device->callback);
  napi_add_env_cleanup_hook(env, onCleanup, device);
  napi_create_object(env, &result);
  napi_create_external(env, device, nullptr, nullptr, &external);
  napi_create_external_arraybuffer(env, arena, arenaBytes, onArenaGone, device, &buffer);
  napi_set_named_property(env, result, "device", external);
  napi_set_named_property(env, result, "arena", buffer);
  watch(device, true);
  return result;
}

bool isBusy(Device *device, uint32_t index) {
  return index < device->slots.size() && device->slots[index].busy;
}

// (device, slot, -errno or 0, payloadBytes): the payload lies 4096 bytes into the slot. -> 0 or -errno
napi_value reply(napi_env env, napi_callback_info info) {
  Arguments<4> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  uint32_t index = 0, payloadBytes = 0;
  int32_t error = 0;
  napi_get_value_uint32(env, arguments[1], &index);
  napi_get_value_int32(env, arguments[2], &error);
  napi_get_value_uint32(env, arguments[3], &payloadBytes);
  if (!isBusy(device, index) || payloadBytes > device->slotBytes - replyAt)
    return number(env, -EINVAL);
  if (error > 0 || error < -errorMax) error = -EIO;
  Slot &slot = device->slots[index];
  if (payloadBytes > largeBytes && !slot.large) {
    slot.large = true;
    device->largeCount += 1;
  }
  OutHeader header{static_cast<uint32_t>(sizeof(OutHeader)) + payloadBytes, error, slot.unique};
  iovec parts[2] = {{&header, sizeof header},
                    {device->arena + index * device->slotBytes + replyAt, payloadBytes}};
  ssize_t status = -1;
  int failure = -ENODEV;
  if (device->fd >= 0) {
    do status = writev(device->fd, parts, payloadBytes > 0 ? 2 : 1);
    while (status < 0 && errno == EINTR);
    failure = status < 0 ? -errno : 0;
  }
  release(device, index);
  return number(env, failure);
}

// (device, slot): a request that gets no reply
napi_value forget(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  const auto index = static_cast<uint32_t>(integerOf(env, arguments[1]));
  if (isBusy(device, index)) release(device, index);
  return nullptr;
}

// (device, code, payload) -> promise of 0 or -errno; a notification (enum fuse_notify_code). On
// the pool: the kernel may wait there for pages and folders that requests hold which the loop has
// yet to answer.
napi_value notifyLater(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  const Bytes payload = bytesOf(env, arguments[2]);
  auto *task = new PoolTask();
  // Its own descriptor: the device may be closed meanwhile.
  const int fd = device->fd < 0 ? -1 : fcntl(device->fd, F_DUPFD_CLOEXEC, 0);
  const auto code = static_cast<int32_t>(integerOf(env, arguments[1]));
  std::vector<uint8_t> bytes(payload.data, payload.data + payload.length);
  task->work = [fd, code, bytes = std::move(bytes)]() mutable -> int64_t {
    if (fd < 0) return -ENODEV;
    OutHeader header{static_cast<uint32_t>(sizeof(OutHeader) + bytes.size()), code, 0};
    iovec parts[2] = {{&header, sizeof header}, {bytes.data(), bytes.size()}};
    const ssize_t status = writev(fd, parts, bytes.empty() ? 1 : 2);
    const int64_t result = status < 0 ? -errno : 0;
    close(fd);
    return result;
  };
  return runOnPool(env, "wharf.fuse.notify", task);
}

napi_value closeNow(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  closeDevice(deviceOf(env, arguments[0]));
  return nullptr;
}

}  // namespace

void registerFuse(napi_env env, napi_value exports) {
  define(env, exports, "fuseOpen", openDevice);
  define(env, exports, "fuseReply", reply);
  define(env, exports, "fuseForget", forget);
  define(env, exports, "fuseNotifyLater", notifyLater);
  define(env, exports, "fuseClose", closeNow);
  registerFuseMount(env, exports);
}

}  // namespace wharf
