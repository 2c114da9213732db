#include "wharf.h"
namespace wharf {
void registerFuse(napi_env, napi_value) {}
}  // namespace wharf
