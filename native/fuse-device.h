// One mount's descriptor: its slots, its ring, and its place on libuv's loop.
#pragma once

#include "fuse.h"

#include <uv.h>

namespace wharf {

constexpr uint32_t batchMax = 64;

struct Device {
  napi_env env = nullptr;
  napi_async_context context = nullptr;
  napi_ref callback = nullptr;
  napi_ref readyReference = nullptr;
  uv_poll_t poll{};
  uv_idle_t idle{};
  uv_poll_t ringPoll{};  // this and the next once the ring is in use
  uv_prepare_t prepare{};
  int fd = -1;
  Slots slots;
  Ring ring;
  uint32_t ringSlotsAt = 0;    // those before are of /dev/fuse
  std::vector<uint32_t> free;  // the last one was used last, and is warm
  uint32_t *ready = nullptr;   // TypeScript's view of a batch
  uint64_t windowNsMax = 0;
  uint64_t windowNs = 0;
  uint64_t answeredNs = 0;
  uint32_t batchLimit = 1;
  bool serving = false;
  bool watching = false;
  bool onRing = false;
  bool readable = true;  // where the ring is in use: /dev/fuse may have something
  bool closing = false;
  bool environmentGone = false;
  int openHandles = 2;
  int owners = 2;  // the loop's handles, and the arena that TypeScript holds
};

// fuse-loop.cc

// Takes requests from /dev/fuse from here on.
void beginLoop(Device *device, uv_loop_t *loop);
// The same from the ring, which has been started.
void joinRing(Device *device);
void onAnswered(Device *device);
// The slot may be read into again.
void release(Device *device, uint32_t index);
// Nothing is read any more; the descriptor is closed as soon as the loop has let go of it. The ring
// is closed at once: an unmount waits for requests that only it could hand over.
void closeDevice(Device *device);
void disown(Device *device);

}  // namespace wharf
