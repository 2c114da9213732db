// What the two FUSE files share: work that the kernel may keep waiting leaves the loop.
#pragma once

#include "wharf.h"

#include <functional>

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

}  // namespace wharf
