// What TypeScript calls: a mount's descriptor is opened, requests are answered, the kernel is
// notified.
#include "fuse-device.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

namespace wharf {
namespace {

// What the kernel refuses as the error of a reply; it would leave the request waiting for ever.
constexpr int32_t errorMax = 511;

Device *deviceOf(napi_env env, napi_value value) {
  void *data = nullptr;
  napi_get_value_external(env, value, &data);
  return static_cast<Device *>(data);
}

// The arena has no reader any more.
void onArenaGone(napi_env, void *, void *data) {
  auto *device = static_cast<Device *>(data);
  device->slots.unmap();
  disown(device);
}

// (fd, slotCount, ringSlotCount, slotBytes, pollMicroseconds, ready: Uint32Array, callback)
//   -> {device, arena: ArrayBuffer} or -errno; the descriptor belongs to the device from now on
napi_value openDevice(napi_env env, napi_callback_info info) {
  Arguments<7> arguments(env, info);
  const auto slotCount = static_cast<uint32_t>(integerOf(env, arguments[1]));
  const auto ringSlotCount = static_cast<uint32_t>(integerOf(env, arguments[2]));
  const auto slotBytes = static_cast<size_t>(integerOf(env, arguments[3]));
  const Bytes ready = bytesOf(env, arguments[5]);
  if (slotCount == 0 || slotBytes % replyAt != 0 || ready.length < batchMax * sizeof(uint32_t))
    return number(env, -EINVAL);
  auto *device = new Device();
  const int failure = device->slots.open(slotCount + ringSlotCount, slotBytes);
  if (failure < 0) {
    delete device;
    return number(env, failure);
  }
  device->env = env;
  device->fd = static_cast<int>(integerOf(env, arguments[0]));
  for (uint32_t index = slotCount; index > 0; index -= 1) device->free.push_back(index - 1);
  device->ready = reinterpret_cast<uint32_t *>(ready.data);
  device->windowNsMax = static_cast<uint64_t>(integerOf(env, arguments[4])) * 1000;
  device->ringSlotsAt = slotCount;
  fcntl(device->fd, F_SETFL, fcntl(device->fd, F_GETFL) | O_NONBLOCK);
  fcntl(device->fd, F_SETFD, FD_CLOEXEC);

  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  napi_value name, result, external, buffer;
  napi_create_string_utf8(env, "wharf.fuse", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &device->context);
  napi_create_reference(env, arguments[5], 1, &device->readyReference);
  napi_create_reference(env, arguments[6], 1, &device->callback);
  napi_create_object(env, &result);
  napi_create_external(env, device, nullptr, nullptr, &external);
  napi_create_external_arraybuffer(env, device->slots.at(0), device->slots.bytes(), onArenaGone,
                                   device, &buffer);
  napi_set_named_property(env, result, "device", external);
  napi_set_named_property(env, result, "arena", buffer);
  beginLoop(device, loop);
  return result;
}

// (device, slotsEach) -> 0 or -errno: a ring of so many slots for each processor, of which the
// kernel does not know yet
napi_value openRing(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  const auto each = static_cast<uint32_t>(integerOf(env, arguments[1]));
  return number(env, device->ring.open(device->fd, &device->slots, device->ringSlotsAt, each));
}

// (device) -> 0 or -errno: requests come over the ring once INIT is answered and this has been
// called; where it fails, over /dev/fuse as before
napi_value startRing(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  const int failure = device->ring.start();
  if (failure < 0) {
    device->ring.close();
    device->ring.closeEvent();
    return number(env, failure);
  }
  joinRing(device);
  return number(env, 0);
}

// 0 or -errno
int replyNow(Device *device, uint32_t index, int32_t error, uint32_t payloadBytes) {
  if (device->ring.owns(index)) {
    const int failure = device->ring.answer(index, error, payloadBytes);
    onAnswered(device);
    return failure;
  }
  OutHeader header{static_cast<uint32_t>(sizeof(OutHeader)) + payloadBytes, error,
                   device->slots.unique(index)};
  iovec parts[2] = {{&header, sizeof header}, {device->slots.at(index) + replyAt, payloadBytes}};
  int failure = -ENODEV;
  if (device->fd >= 0) {
    ssize_t status = -1;
    do status = writev(device->fd, parts, payloadBytes > 0 ? 2 : 1);
    while (status < 0 && errno == EINTR);
    failure = status < 0 ? -errno : 0;
  }
  release(device, index);
  return failure;
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
  if (!device->slots.isBusy(index) || payloadBytes > device->slots.slotBytes() - replyAt)
    return number(env, -EINVAL);
  if (error > 0 || error < -errorMax) error = -EIO;
  device->slots.touched(index, payloadBytes);
  return number(env, replyNow(device, index, error, payloadBytes));
}

// (device, slot): a request that gets no reply. The ring has none of that kind: there a reply is
// what gives the slot back.
napi_value forget(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Device *device = deviceOf(env, arguments[0]);
  const auto index = static_cast<uint32_t>(integerOf(env, arguments[1]));
  if (!device->slots.isBusy(index)) return nullptr;
  if (device->ring.owns(index)) replyNow(device, index, -EIO, 0);
  else release(device, index);
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
  define(env, exports, "fuseRingOpen", openRing);
  define(env, exports, "fuseRingStart", startRing);
  define(env, exports, "fuseReply", reply);
  define(env, exports, "fuseForget", forget);
  define(env, exports, "fuseNotifyLater", notifyLater);
  define(env, exports, "fuseClose", closeNow);
  registerFuseMount(env, exports);
}

}  // namespace wharf
