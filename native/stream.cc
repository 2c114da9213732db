// A connected socket on libuv's loop, for those whom a stream of Node's costs too much: bytes are
// received into memory that serves again and again, and sent by one call for all that is gathered.
#include "wharf.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

namespace wharf {
namespace {

constexpr uint32_t partsMax = 64;
// Beside UV_READABLE and UV_WRITABLE: the socket has met an error.
constexpr int failedEvent = 4;

struct Stream {
  napi_env env = nullptr;
  napi_async_context context = nullptr;
  napi_ref callback = nullptr;
  uv_poll_t poll{};
  int fd = -1;
  bool closing = false;
  bool environmentGone = false;
  int owners = 2;  // the loop's handle, and TypeScript
};

Stream *streamOf(napi_env env, napi_value value) {
  void *data = nullptr;
  napi_get_value_external(env, value, &data);
  return static_cast<Stream *>(data);
}

void disown(Stream *stream) {
  stream->owners -= 1;
  if (stream->owners == 0) delete stream;
}

void onClosed(uv_handle_t *handle) {
  auto *stream = static_cast<Stream *>(handle->data);
  close(stream->fd);
  stream->fd = -1;
  if (!stream->environmentGone) {
    napi_delete_reference(stream->env, stream->callback);
    napi_async_destroy(stream->env, stream->context);
  }
  disown(stream);
}

void onCleanup(void *data);

// The descriptor is closed as soon as the loop has let go of it.
void closeStream(Stream *stream) {
  if (stream->closing) return;
  stream->closing = true;
  if (!stream->environmentGone) napi_remove_env_cleanup_hook(stream->env, onCleanup, stream);
  uv_close(reinterpret_cast<uv_handle_t *>(&stream->poll), onClosed);
}

void onCleanup(void *data) {
  auto *stream = static_cast<Stream *>(data);
  stream->environmentGone = true;
  closeStream(stream);
}

// Tells TypeScript what the socket is ready for. Microtasks run before it returns.
void tell(Stream *stream, int events) {
  napi_env env = stream->env;
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  napi_value callback, global;
  napi_get_reference_value(env, stream->callback, &callback);
  napi_get_global(env, &global);
  napi_value argument = number(env, events);
  if (napi_make_callback(env, stream->context, global, callback, 1, &argument, nullptr) ==
      napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

// After an error libuv watches no more.
void onEvents(uv_poll_t *poll, int status, int events) {
  tell(static_cast<Stream *>(poll->data), status < 0 ? failedEvent : events);
}

void onStreamGone(napi_env, void *data, void *) {
  auto *stream = static_cast<Stream *>(data);
  closeStream(stream);
  disown(stream);
}

// (fd, callback) -> stream or -errno. The descriptor stays the caller's: the
// stream has one of its own. Nothing is watched for yet.
napi_value openStream(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  const int fd = fcntl(static_cast<int>(integerOf(env, arguments[0])), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return number(env, -errno);
  auto *stream = new Stream();
  stream->env = env;
  stream->fd = fd;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  uv_poll_init(loop, &stream->poll, fd);
  stream->poll.data = stream;
  napi_value name, external;
  napi_create_string_utf8(env, "wharf.stream", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &stream->context);
  napi_create_reference(env, arguments[1], 1, &stream->callback);
  napi_add_env_cleanup_hook(env, onCleanup, stream);
  napi_create_external(env, stream, onStreamGone, nullptr, &external);
  return external;
}

// (stream, events): UV_READABLE 1, UV_WRITABLE 2
napi_value watchStream(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Stream *stream = streamOf(env, arguments[0]);
  if (stream->closing) return nullptr;
  const auto events = static_cast<int>(integerOf(env, arguments[1]));
  if (events == 0) uv_poll_stop(&stream->poll);
  else uv_poll_start(&stream->poll, events, onEvents);
  return nullptr;
}

// (stream, into) -> bytes, 0 at the end, -EAGAIN or another -errno
napi_value receive(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Stream *stream = streamOf(env, arguments[0]);
  const Bytes into = bytesOf(env, arguments[1]);
  if (stream->closing) return number(env, -EBADF);
  ssize_t count;
  do count = recv(stream->fd, into.data, into.length, MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  return number(env, count < 0 ? -errno : count);
}

// (stream, parts) -> how many bytes of them went out, or -errno; at most 64 parts are looked at
napi_value sendParts(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Stream *stream = streamOf(env, arguments[0]);
  if (stream->closing) return number(env, -EBADF);
  uint32_t count = 0;
  napi_get_array_length(env, arguments[1], &count);
  count = std::min(count, partsMax);
  iovec parts[partsMax];
  for (uint32_t index = 0; index < count; index += 1) {
    napi_value part;
    napi_get_element(env, arguments[1], index, &part);
    const Bytes bytes = bytesOf(env, part);
    parts[index] = {bytes.data, bytes.length};
  }
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  ssize_t sent;
  do sent = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return number(env, sent < 0 ? -errno : sent);
}

napi_value closeNow(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  closeStream(streamOf(env, arguments[0]));
  return nullptr;
}

}  // namespace

void registerStream(napi_env env, napi_value exports) {
  define(env, exports, "streamOpen", openStream);
  define(env, exports, "streamWatch", watchStream);
  define(env, exports, "streamReceive", receive);
  define(env, exports, "streamSend", sendParts);
  define(env, exports, "streamClose", closeNow);
}

}  // namespace wharf
