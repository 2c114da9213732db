#include "wharf.h"

namespace wharf {

Bytes bytesOf(napi_env env, napi_value value) {
  napi_typedarray_type type;
  size_t length = 0;
  void *data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok)
    return {nullptr, 0};
  return {static_cast<uint8_t *>(data), type == napi_uint32_array ? length * 4 : length};
}

int64_t integerOf(napi_env env, napi_value value) {
  int64_t integer = 0;
  napi_get_value_int64(env, value, &integer);
  return integer;
}

napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

void define(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace wharf

NAPI_MODULE_INIT() {
  wharf::registerFileIo(env, exports);
  wharf::registerChecksum(env, exports);
  wharf::registerFuse(env, exports);
  wharf::registerStream(env, exports);
  return exports;
}
