// A mount's requests on libuv's loop, from /dev/fuse and, where that is in use, from the ring. They
// come into slots of one arena that TypeScript sees as an ArrayBuffer; one call tells of a batch;
// replies are given from the slots.
//
// Without a free slot /dev/fuse is not read: that is the bound of what is under way. With the ring
// the kernel has slots of its own to fill, and only what it does not send there is read.
//
// When all is answered the loop may turn for a while without sleeping (an idle handle), because
// waking up costs more than a request does. Timers and other I/O have their turn meanwhile. The
// window opens when a request follows closely on an answer and halves each time it was spent in
// vain, so that an idle mount costs nothing and a slow one next to nothing.
#include "fuse-device.h"

#include <algorithm>
#include <cerrno>
#include <time.h>
#include <unistd.h>

namespace wharf {
namespace {

constexpr uint64_t turnNsMax = 1000000;  // then the rest of the loop has its turn
constexpr uint64_t windowNsMin = 4000;

uint64_t nowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
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

// The process ends before all is closed: TypeScript must not be called any more.
void onCleanup(void *data) {
  auto *device = static_cast<Device *>(data);
  device->environmentGone = true;
  closeDevice(device);
}

void onClosed(uv_handle_t *handle) {
  auto *device = static_cast<Device *>(handle->data);
  device->openHandles -= 1;
  if (device->openHandles > 0) return;
  device->ring.closeEvent();
  close(device->fd);
  device->fd = -1;
  // The callback holds the arena, which goes when nobody looks at it any more.
  if (!device->environmentGone) {
    napi_remove_env_cleanup_hook(device->env, onCleanup, device);
    napi_delete_reference(device->env, device->callback);
    napi_delete_reference(device->env, device->readyReference);
    napi_async_destroy(device->env, device->context);
  }
  disown(device);
}

void tellEnd(Device *device, int32_t error) {
  closeDevice(device);
  tell(device, error);
}

// Reads requests behind the `count` that are there, while there are some, slots are free and the
// batch is not full. The batch grows while requests keep coming, so that a lone one is not followed
// by a vain look for the next. A negative errno is the end of the mount.
int32_t readBatch(Device *device, uint32_t count) {
  const uint32_t limit = device->onRing ? batchMax : device->batchLimit;
  while (count < limit && !device->free.empty()) {
    const uint32_t index = device->free.back();
    uint8_t *request = device->slots.at(index) + requestAt;
    const ssize_t bytes = read(device->fd, request, device->slots.slotBytes() - requestAt);
    if (bytes < 0) {
      if (errno == EINTR || errno == ENOENT) continue;  // ENOENT: that request was interrupted
      if (errno == EAGAIN) device->readable = false;
      if (errno == EAGAIN || count > 0) break;  // an error comes again
      return -errno;
    }
    if (bytes == 0) return count > 0 ? static_cast<int32_t>(count) : -ENODEV;
    device->free.pop_back();
    device->slots.begin(index, static_cast<size_t>(bytes));
    device->ready[count] = index;
    count += 1;
  }
  const bool more = count == limit;
  device->batchLimit = more ? std::min(2 * device->batchLimit, batchMax) : 1;
  return static_cast<int32_t>(count);
}

// What the ring has comes first: an INTERRUPT, which is read, follows the request that it is about.
int32_t takeBatch(Device *device) {
  if (!device->onRing) return readBatch(device, 0);
  const uint32_t count = device->ring.take(device->ready, batchMax);
  return device->readable ? readBatch(device, count) : static_cast<int32_t>(count);
}

// Serves what is there, for a bounded time. Gives the number of requests, or -1 at the end.
int32_t serve(Device *device) {
  int32_t served = 0;
  uint64_t until = 0;
  device->serving = true;
  while (!device->closing) {
    const int32_t count = takeBatch(device);
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

void onAwake(Device *device) {
  device->ring.setSignals(false);
  const uint64_t before = device->answeredNs;
  const uint64_t began = device->windowNsMax == 0 ? 0 : nowNs();
  const int32_t served = serve(device);
  if (served <= 0 || device->windowNsMax == 0) return;
  // Falling asleep and waking up are part of the time since the last answer: it counts half.
  if (began - before <= 2 * device->windowNsMax) device->windowNs = device->windowNsMax;
  if (device->slots.isIdle()) onAllAnswered(device);
}

void onReadable(uv_poll_t *poll, int status, int) {
  auto *device = static_cast<Device *>(poll->data);
  if (status < 0) return tellEnd(device, status);
  device->readable = true;
  onAwake(device);
}

void onRingEvent(uv_poll_t *poll, int, int) {
  auto *device = static_cast<Device *>(poll->data);
  device->ring.clearEvent();
  onAwake(device);
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
    if (!device->slots.isIdle()) uv_idle_stop(idle);
  } else if (nowNs() - device->answeredNs >= device->windowNs) {
    device->windowNs = device->windowNs / 2 < windowNsMin ? 0 : device->windowNs / 2;
    uv_idle_stop(idle);
  }
}

// The loop is about to sleep, unless it turns idly. What was answered since the last batch goes
// out, and the kernel signals what comes from here on.
void onPrepare(uv_prepare_t *prepare) {
  auto *device = static_cast<Device *>(prepare->data);
  device->ring.turn();
  const bool sleeps = uv_is_active(reinterpret_cast<uv_handle_t *>(&device->idle)) == 0;
  device->ring.setSignals(sleeps);
  if (sleeps && device->ring.hasWork()) uv_idle_start(&device->idle, onIdle);
}

}  // namespace

void beginLoop(Device *device, uv_loop_t *loop) {
  uv_poll_init(loop, &device->poll, device->fd);
  uv_idle_init(loop, &device->idle);
  device->poll.data = device->idle.data = device;
  napi_add_env_cleanup_hook(device->env, onCleanup, device);
  watch(device, true);
}

void joinRing(Device *device) {
  uv_poll_init(device->poll.loop, &device->ringPoll, device->ring.eventFd());
  uv_prepare_init(device->poll.loop, &device->prepare);
  device->ringPoll.data = device->prepare.data = device;
  device->openHandles += 2;
  device->onRing = true;
  uv_poll_start(&device->ringPoll, UV_READABLE, onRingEvent);
  uv_prepare_start(&device->prepare, onPrepare);
}

void onAnswered(Device *device) {
  if (!device->serving && !device->closing && device->windowNsMax > 0 && device->slots.isIdle())
    onAllAnswered(device);
}

void release(Device *device, uint32_t index) {
  device->slots.end(index);
  device->slots.trim(index);
  device->free.push_back(index);
  watch(device, true);
  onAnswered(device);
}

void closeDevice(Device *device) {
  if (device->closing) return;
  watch(device, false);
  device->closing = true;
  uv_close(reinterpret_cast<uv_handle_t *>(&device->poll), onClosed);
  uv_close(reinterpret_cast<uv_handle_t *>(&device->idle), onClosed);
  device->ring.close();
  if (!device->onRing) return;
  uv_close(reinterpret_cast<uv_handle_t *>(&device->ringPoll), onClosed);
  uv_close(reinterpret_cast<uv_handle_t *>(&device->prepare), onClosed);
}

void disown(Device *device) {
  device->owners -= 1;
  if (device->owners == 0) delete device;
}

}  // namespace wharf
