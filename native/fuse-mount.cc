// Mounting and unmounting, and what fusermount3 needs: a pair of sockets to get a descriptor over.
#include "fuse.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

namespace wharf {

napi_value runOnPool(napi_env env, const char *name, PoolTask *task) {
  napi_value promise, label;
  napi_create_promise(env, &task->deferred, &promise);
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &label);
  napi_create_async_work(
      env, nullptr, label,
      [](napi_env, void *data) {
        auto *self = static_cast<PoolTask *>(data);
        self->result = self->work();
      },
      [](napi_env env, napi_status, void *data) {
        auto *self = static_cast<PoolTask *>(data);
        napi_resolve_deferred(env, self->deferred, number(env, self->result));
        napi_delete_async_work(env, self->handle);
        delete self;
      },
      task, &task->handle);
  napi_queue_async_work(env, task->handle);
  return promise;
}

namespace {

std::string textOf(napi_env env, napi_value value) {
  size_t length = 0;
  napi_get_value_string_utf8(env, value, nullptr, 0, &length);
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, &text[0], length + 1, &length);
  return text;
}

// (source, target, type, flags, options) -> 0 or -errno; mount(2)
napi_value mountNow(napi_env env, napi_callback_info info) {
  Arguments<5> arguments(env, info);
  const int status = mount(textOf(env, arguments[0]).c_str(), textOf(env, arguments[1]).c_str(),
                           textOf(env, arguments[2]).c_str(),
                           static_cast<unsigned long>(integerOf(env, arguments[3])),
                           textOf(env, arguments[4]).c_str());
  return number(env, status < 0 ? -errno : 0);
}

// (target, flags) -> promise of 0 or -errno; umount2(2) on the pool: it may write back what the
// kernel still holds, which the loop has to answer meanwhile.
napi_value unmountLater(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  auto *task = new PoolTask();
  const auto flags = static_cast<int>(integerOf(env, arguments[1]));
  task->work = [target = textOf(env, arguments[0]), flags]() -> int64_t {
    return umount2(target.c_str(), flags) < 0 ? -errno : 0;
  };
  return runOnPool(env, "wharf.unmount", task);
}

// (target, flags) -> 0 or -errno; the same at once, for a process that is about to end.
napi_value unmountNow(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  const int status = umount2(textOf(env, arguments[0]).c_str(),
                             static_cast<int>(integerOf(env, arguments[1])));
  return number(env, status < 0 ? -errno : 0);
}

// () -> [ours, theirs]: a pair of Unix sockets. Both close on exec: whoever spawns the child hands
// it `theirs` by number.
napi_value socketPair(napi_env env, napi_callback_info) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) return number(env, -errno);
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
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
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

void registerFuseMount(napi_env env, napi_value exports) {
  define(env, exports, "mount", mountNow);
  define(env, exports, "unmountLater", unmountLater);
  define(env, exports, "unmountNow", unmountNow);
  define(env, exports, "socketPair", socketPair);
  define(env, exports, "receiveDescriptor", receiveDescriptor);
}

}  // namespace wharf
