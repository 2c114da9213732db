// What the parts of the addon share. The addon moves bytes and decides nothing: calls answer with
// a count or with a negative errno, and TypeScript draws the conclusions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <node_api.h>

namespace wharf {

void registerFileIo(napi_env env, napi_value exports);
void registerChecksum(napi_env env, napi_value exports);
void registerFuse(napi_env env, napi_value exports);
void registerStream(napi_env env, napi_value exports);

// CRC-32C (Castagnoli), going on from `seed`.
uint32_t crc32c(const uint8_t *bytes, size_t length, uint32_t seed);

struct Bytes {
  uint8_t *data;
  size_t length;
};

// The memory of a Uint8Array, without a copy; valid until the call returns, and as long as a
// reference to the array is held.
Bytes bytesOf(napi_env env, napi_value value);
int64_t integerOf(napi_env env, napi_value value);
napi_value number(napi_env env, int64_t value);
void define(napi_env env, napi_value exports, const char *name, napi_callback callback);

// The arguments of a call; missing ones are undefined.
template <size_t Count> struct Arguments {
  napi_value values[Count];
  napi_value self;
  Arguments(napi_env env, napi_callback_info info) {
    size_t count = Count;
    napi_get_cb_info(env, info, &count, values, &self, nullptr);
  }
  napi_value operator[](size_t index) const { return values[index]; }
};

}  // namespace wharf
