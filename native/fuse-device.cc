// The FUSE device on libuv's loop. Requests are read into slots of one arena that TypeScript sees
// as an ArrayBuffer; one call tells of a batch; replies are written from the slots. After a batch
// the device is polled for a moment before the loop sleeps, because waking up costs more than a
// request does.
#include "wharf.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
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
constexpr size_t replyAt = 4096;
constexpr uint32_t batchesPerWake = 64;

struct Device {
  napi_env env = nullptr;
  napi_async_context context = nullptr;
  napi_ref self = nullptr;
  napi_ref callback = nullptr;
  uv_poll_t poll{};
  int fd = -1;
  uint8_t *arena = nullptr;
  size_t slotBytes = 0;
  uint32_t slotCount = 0;
  uint64_t pollNs = 0;
  uint32_t *ready = nullptr;  // TypeScript's view of the batch
  std::vector<uint32_t> free;
  std::vector<uint64_t> unique;
  bool watching = false;
  bool closed = false;
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

// Tells TypeScript of `count` requests in `ready`, or of an end with a negative errno. Microtasks
// run when it returns, so whatever was answered without waiting is answered then.
void tell(Device *device, int32_t count) {
  napi_handle_scope scope;
  napi_open_handle_scope(device->env, &scope);
  napi_value callback;
  napi_value global;
  napi_get_reference_value(device->env, device->callback, &callback);
  napi_get_global(device->env, &global);
  napi_value argument = number(device->env, count);
  if (napi_make_callback(device->env, device->context, global, callback, 1, &argument, nullptr) ==
      napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(device->env, &error);
    napi_fatal_exception(device->env, error);
  }
  napi_close_handle_scope(device->env, scope);
}

void onReadable(uv_poll_t *poll, int status, int events);

void watch(Device *device, bool on) {
  if (device->closed || device->watching == on) return;
  device->watching = on;
  if (on)
    uv_poll_start(&device->poll, UV_READABLE | UV_DISCONNECT, onReadable);
  else
    uv_poll_stop(&device->poll);
}

void closeDevice(Device *device) {
  if (device->closed) return;
  watch(device, false);
  device->closed = true;
  uv_close(reinterpret_cast<uv_handle_t *>(&device->poll), [](uv_handle_t *handle) {
    auto *self = static_cast<Device *>(handle->data);
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
  });
}

// Reads requests while there are some and slots are free. A negative errno ends the device.
int32_t readBatch(Device *device) {
  int32_t count = 0;
  while (!device->free.empty()) {
    const uint32_t slot = device->free.back();
    uint8_t *base = device->arena + slot * device->slotBytes;
    const ssize_t bytes = read(device->fd, base, device->slotBytes);
    if (bytes < 0) {
      if (errno == EINTR || errno == ENOENT) continue;  // ENOENT: the request was interrupted
      if (errno == EAGAIN) break;
      return count > 0 ? count : -errno;
    }
    if (bytes == 0) return count > 0 ? count : -ENODEV;
    device->free.pop_back();
    memcpy(&device->unique[slot], base + uniqueAt, sizeof(uint64_t));
    device->ready[count] = slot;
    count += 1;
  }
  return count;
}

void onReadable(uv_poll_t *poll, int status, int) {
  auto *device = static_cast<Device *>(poll->data);
  if (status < 0) {
    closeDevice(device);
    return tell(device, status);
  }
  uint64_t spinUntil = 0;
  for (uint32_t batches = 0; batches < batchesPerWake && !device->closed;) {
    const int32_t count = readBatch(device);
    if (count < 0) {
      closeDevice(device);
      return tell(device, count);
    }
    if (count > 0) {
      batches += 1;
      tell(device, count);
      // Requests that wait for something are finished by the loop: it must have its turn.
      if (device->free.size() < device->slotCount) break;
      spinUntil = device->pollNs > 0 ? nowNs() + device->pollNs : 0;
    } else if (spinUntil == 0 || nowNs() >= spinUntil) {
      break;
    }
  }
  if (device->free.empty()) watch(device, false);
}

void release(Device *device, uint32_t slot) {
  device->free.push_back(slot);
  if (!device->watching) watch(device, true);
}

// (fd, slotCount, slotBytes, pollMicroseconds, ready: Uint32Array, callback)
//   -> {device, arena: ArrayBuffer}; the descriptor belongs to the device from now on
napi_value openDevice(napi_env env, napi_callback_info info) {
  Arguments<6> arguments(env, info);
  auto *device = new Device();
  device->env = env;
  device->fd = static_cast<int>(integerOf(env, arguments[0]));
  device->slotCount = static_cast<uint32_t>(integerOf(env, arguments[1]));
  device->slotBytes = static_cast<size_t>(integerOf(env, arguments[2]));
  device->pollNs = static_cast<uint64_t>(integerOf(env, arguments[3])) * 1000;
  device->ready = reinterpret_cast<uint32_t *>(bytesOf(env, arguments[4]).data);
  device->unique.resize(device->slotCount);
  for (uint32_t slot = device->slotCount; slot > 0; slot -= 1) device->free.push_back(slot - 1);
  const size_t arenaBytes = device->slotBytes * device->slotCount;
  void *arena = mmap(nullptr, arenaBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) {
    const int error = errno;
    delete device;
    return number(env, -error);
  }
  device->arena = static_cast<uint8_t *>(arena);
  fcntl(device->fd, F_SETFL, fcntl(device->fd, F_GETFL) | O_NONBLOCK);
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  uv_poll_init(loop, &device->poll, device->fd);
  device->poll.data = device;
  napi_value name;
  napi_create_string_utf8(env, "wharf.fuse", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &device->context);
  napi_create_reference(env, arguments[5], 1, &device->callback);
  // The batch array is TypeScript's: it is kept alive with the device, which lives for ever.
  napi_ref readyReference;
  napi_create_reference(env, arguments[4], 1, &readyReference);
  napi_value result, external, buffer;
  napi_create_object(env, &result);
  napi_create_external(env, device, nullptr, nullptr, &external);
  napi_create_external_arraybuffer(env, device->arena, arenaBytes, nullptr, nullptr, &buffer);
  napi_set_named_property(env, result, "device", external);
  napi_set_named_property(env, result, "arena", buffer);
  watch(device, true);
  return result;
}

// (device, slot, error, payloadBytes): the payload lies 4096 bytes into the slot. -> 0 or -errno
napi_value reply(napi_env env, napi_callback_info info) {
  Arguments<4> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  uint32_t slot = 0;
  int32_t error = 0;
  uint32_t payloadBytes = 0;
  napi_get_value_uint32(env, arguments[1], &slot);
  napi_get_value_int32(env, arguments[2], &error);
  napi_get_value_uint32(env, arguments[3], &payloadBytes);
  if (slot >= device->slotCount || payloadBytes > device->slotBytes - replyAt)
    return number(env, -EINVAL);
  OutHeader header{static_cast<uint32_t>(sizeof(OutHeader)) + payloadBytes, error,
                   device->unique[slot]};
  iovec parts[2] = {{&header, sizeof header},
                    {device->arena + slot * device->slotBytes + replyAt, payloadBytes}};
  ssize_t status = 0;
  if (device->fd >= 0)
    do status = writev(device->fd, parts, payloadBytes > 0 ? 2 : 1);
    while (status < 0 && errno == EINTR);
  const int failure = status < 0 ? -errno : 0;
  release(device, slot);
  return number(env, failure);
}

// (device, slot): a request that has no reply
napi_value forget(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  release(deviceOf(env, arguments[0]), static_cast<uint32_t>(integerOf(env, arguments[1])));
  return nullptr;
}

// (device, code, payload): a notification (enum fuse_notify_code). -> 0 or -errno
napi_value notify(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  const Bytes payload = bytesOf(env, arguments[2]);
  OutHeader header{static_cast<uint32_t>(sizeof(OutHeader) + payload.length),
                   static_cast<int32_t>(integerOf(env, arguments[1])), 0};
  iovec parts[2] = {{&header, sizeof header}, {payload.data, payload.length}};
  const ssize_t status = device->fd < 0 ? -1 : writev(device->fd, parts, 2);
  return number(env, status < 0 ? -errno : 0);
}

napi_value closeNow(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  closeDevice(deviceOf(env, arguments[0]));
  return nullptr;
}

std::vector<char> textOf(napi_env env, napi_value value) {
  size_t length = 0;
  napi_get_value_string_utf8(env, value, nullptr, 0, &length);
  std::vector<char> text(length + 1);
  napi_get_value_string_utf8(env, value, text.data(), text.size(), &length);
  return text;
}

// (source, target, type, flags, options) -> 0 or -errno; mount(2)
napi_value mountNow(napi_env env, napi_callback_info info) {
  Arguments<5> arguments(env, info);
  const int status = mount(textOf(env, arguments[0]).data(), textOf(env, arguments[1]).data(),
                           textOf(env, arguments[2]).data(),
                           static_cast<unsigned long>(integerOf(env, arguments[3])),
                           textOf(env, arguments[4]).data());
  return number(env, status < 0 ? -errno : 0);
}

struct Unmount {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  std::vector<char> target;
  int flags = 0;
  int64_t result = 0;
};

// (target, flags) -> promise of 0 or -errno; umount2(2) on the pool: it may write back what the
// kernel still holds, which the loop has to answer meanwhile.
napi_value unmountLater(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  auto *task = new Unmount();
  task->target = textOf(env, arguments[0]);
  task->flags = static_cast<int>(integerOf(env, arguments[1]));
  napi_value promise, name;
  napi_create_promise(env, &task->deferred, &promise);
  napi_create_string_utf8(env, "wharf.unmount", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(
      env, nullptr, name,
      [](napi_env, void *data) {
        auto *self = static_cast<Unmount *>(data);
        self->result = umount2(self->target.data(), self->flags) < 0 ? -errno : 0;
      },
      [](napi_env env, napi_status, void *data) {
        auto *self = static_cast<Unmount *>(data);
        napi_resolve_deferred(env, self->deferred, number(env, self->result));
        napi_delete_async_work(env, self->work);
        delete self;
      },
      task, &task->work);
  napi_queue_async_work(env, task->work);
  return promise;
}

// (target, flags) -> 0 or -errno; the same at once, for a process that is about to end.
napi_value unmountNow(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  const int status = umount2(textOf(env, arguments[0]).data(),
                             static_cast<int>(integerOf(env, arguments[1])));
  return number(env, status < 0 ? -errno : 0);
}

// () -> [ours, theirs]: a pair of Unix sockets, theirs inherited by children
napi_value socketPair(napi_env env, napi_callback_info) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0) return number(env, -errno);
  fcntl(sockets[0], F_SETFD, FD_CLOEXEC);
  napi_value pair;
  napi_create_array_with_length(env, 2, &pair);
  for (uint32_t index = 0; index < 2; index += 1)
    napi_set_element(env, pair, index, number(env, sockets[index]));
  return pair;
}

// (socket) -> a descriptor that was sent over it, or -errno
napi_value receiveDescriptor(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  char byte;
  iovec part{&byte, 1};
  char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t count;
  do count = recvmsg(static_cast<int>(integerOf(env, arguments[0])), &message, MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) return number(env, -errno);
  const cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (count == 0 || header == nullptr || header->cmsg_type != SCM_RIGHTS)
    return number(env, -EPROTO);
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return number(env, fd);
}

}  // namespace

void registerFuse(napi_env env, napi_value exports) {
  define(env, exports, "fuseOpen", openDevice);
  define(env, exports, "fuseReply", reply);
  define(env, exports, "fuseForget", forget);
  define(env, exports, "fuseNotify", notify);
  define(env, exports, "fuseClose", closeNow);
  define(env, exports, "mount", mountNow);
  define(env, exports, "unmountLater", unmountLater);
  define(env, exports, "unmountNow", unmountNow);
  define(env, exports, "socketPair", socketPair);
  define(env, exports, "receiveDescriptor", receiveDescriptor);
}

}  // namespace wharf
