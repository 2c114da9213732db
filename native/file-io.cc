// File I/O for the journal and the cache: reads that never block the loop, gathered writes,
// fallocate, locks. What may block runs on libuv's thread pool and settles a promise.
#include "wharf.h"

#include <cerrno>
#include <climits>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace wharf {
namespace {

// (fd, into, offset) -> bytes read from memory, or -EAGAIN (the device has to be asked), -errno.
napi_value readNoWait(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  const Bytes into = bytesOf(env, arguments[1]);
  iovec part{into.data, into.length};
  ssize_t count;
  do count = preadv2(static_cast<int>(integerOf(env, arguments[0])), &part, 1,
                     integerOf(env, arguments[2]), RWF_NOWAIT);
  while (count < 0 && errno == EINTR);
  return number(env, count < 0 ? -errno : count);
}

int64_t readFully(int fd, Bytes into, int64_t offset) {
  size_t done = 0;
  while (done < into.length) {
    const ssize_t count = pread(fd, into.data + done, into.length - done, offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return static_cast<int64_t>(done);
}

// (fd, into, offset) -> bytes, or -errno; may block.
napi_value readBlocking(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  return number(env, readFully(static_cast<int>(integerOf(env, arguments[0])),
                               bytesOf(env, arguments[1]), integerOf(env, arguments[2])));
}

// Work on the pool whose promise resolves to a count or a negative errno.
struct Task {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref buffer = nullptr;
  int fd = -1;
  Bytes into{};
  int64_t offset = 0;
  int64_t result = 0;
};

void completeTask(napi_env env, napi_status status, void *data) {
  auto *task = static_cast<Task *>(data);
  // Work that never ran has read nothing and made nothing durable.
  if (status != napi_ok) task->result = -ECANCELED;
  napi_resolve_deferred(env, task->deferred, number(env, task->result));
  if (task->buffer != nullptr) napi_delete_reference(env, task->buffer);
  napi_delete_async_work(env, task->work);
  delete task;
}

napi_value queueTask(napi_env env, Task *task, napi_async_execute_callback execute) {
  napi_value promise;
  napi_value name;
  napi_create_promise(env, &task->deferred, &promise);
  napi_create_string_utf8(env, "wharf", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, execute, completeTask, task, &task->work);
  napi_queue_async_work(env, task->work);
  return promise;
}

// (fd, into, offset) -> promise of bytes or -errno
napi_value readLater(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  auto *task = new Task();
  task->fd = static_cast<int>(integerOf(env, arguments[0]));
  task->into = bytesOf(env, arguments[1]);
  task->offset = integerOf(env, arguments[2]);
  napi_create_reference(env, arguments[1], 1, &task->buffer);
  return queueTask(env, task, [](napi_env, void *data) {
    auto *self = static_cast<Task *>(data);
    self->result = readFully(self->fd, self->into, self->offset);
  });
}

// (fd) -> promise of 0 or -errno
napi_value dataSync(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  auto *task = new Task();
  task->fd = static_cast<int>(integerOf(env, arguments[0]));
  return queueTask(env, task, [](napi_env, void *data) {
    auto *self = static_cast<Task *>(data);
    self->result = fdatasync(self->fd) == 0 ? 0 : -errno;
  });
}

// Writes all of `parts`, going on after short writes; 0 or -errno. The parts are used up.
int64_t writeFully(int fd, iovec *parts, size_t count, int64_t offset) {
  size_t first = 0;
  for (;;) {
    while (first < count && parts[first].iov_len == 0) first += 1;
    if (first == count) return 0;
    ssize_t written = pwritev(fd, parts + first, static_cast<int>(count - first), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    if (written == 0) return -EIO;
    offset += written;
    for (; written > 0; first += parts[first].iov_len == 0 ? 1 : 0) {
      iovec &part = parts[first];
      const size_t left = static_cast<size_t>(written);
      const size_t step = part.iov_len < left ? part.iov_len : left;
      part.iov_base = static_cast<uint8_t *>(part.iov_base) + step;
      part.iov_len -= step;
      written -= static_cast<ssize_t>(step);
    }
  }
}

// (fd, parts, offset) -> bytes of all parts, or -errno
napi_value writeParts(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  const int fd = static_cast<int>(integerOf(env, arguments[0]));
  const int64_t offset = integerOf(env, arguments[2]);
  uint32_t count = 0;
  napi_get_array_length(env, arguments[1], &count);
  constexpr uint32_t batchMax = 64;
  iovec batch[batchMax];
  int64_t total = 0;
  for (uint32_t first = 0; first < count; first += batchMax) {
    const uint32_t inBatch = count - first < batchMax ? count - first : batchMax;
    int64_t bytesInBatch = 0;
    for (uint32_t index = 0; index < inBatch; index += 1) {
      napi_value part;
      napi_get_element(env, arguments[1], first + index, &part);
      const Bytes bytes = bytesOf(env, part);
      batch[index] = {bytes.data, bytes.length};
      bytesInBatch += static_cast<int64_t>(bytes.length);
    }
    const int64_t status = writeFully(fd, batch, inBatch, offset + total);
    if (status < 0) return number(env, status);
    total += bytesInBatch;
  }
  return number(env, total);
}

// (fd, offset, length, punch) -> 0 or -errno
napi_value allocate(napi_env env, napi_callback_info info) {
  Arguments<4> arguments(env, info);
  bool punch = false;
  napi_get_value_bool(env, arguments[3], &punch);
  const int mode = punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
  int status;
  do status = fallocate(static_cast<int>(integerOf(env, arguments[0])), mode,
                        integerOf(env, arguments[1]), integerOf(env, arguments[2]));
  while (status < 0 && errno == EINTR);
  return number(env, status < 0 ? -errno : 0);
}

// (fd, offset, hole) -> where the next data or hole is, or -errno
napi_value seek(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  bool hole = false;
  napi_get_value_bool(env, arguments[2], &hole);
  const int whence = hole ? SEEK_HOLE : SEEK_DATA;
  const off_t found =
      lseek(static_cast<int>(integerOf(env, arguments[0])), integerOf(env, arguments[1]), whence);
  return number(env, found < 0 ? -errno : found);
}

// (fd) -> 0, or -EWOULDBLOCK while another process holds it
napi_value lockExclusive(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  const int fd = static_cast<int>(integerOf(env, arguments[0]));
  return number(env, flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0);
}

// () -> milliseconds of a clock that counts suspend
napi_value bootTimeMs(napi_env env, napi_callback_info) {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  napi_value result;
  napi_create_double(env, static_cast<double>(now.tv_sec) * 1e3 + now.tv_nsec / 1e6, &result);
  return result;
}

}  // namespace

void registerFileIo(napi_env env, napi_value exports) {
  define(env, exports, "readNoWait", readNoWait);
  define(env, exports, "readBlocking", readBlocking);
  define(env, exports, "readLater", readLater);
  define(env, exports, "dataSync", dataSync);
  define(env, exports, "writeParts", writeParts);
  define(env, exports, "allocate", allocate);
  define(env, exports, "seek", seek);
  define(env, exports, "lockExclusive", lockExclusive);
  define(env, exports, "bootTimeMs", bootTimeMs);
}

}  // namespace wharf
