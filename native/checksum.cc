// CRC-32C with the instruction of SSE 4.2 where the processor has it, by table elsewhere. Three
// streams at once hide the instruction's latency; they are joined by multiplying with constants
// that shift a CRC over a known number of zero bytes (Gopal et al., Intel 2011).
#include "wharf.h"

#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace wharf {
namespace {

constexpr uint32_t polynomial = 0x82f63b78;
constexpr size_t streamBytes = 1360;  // three of them are 4080 bytes of a block of 4096

uint32_t table[8][256];
// shift[i][b]: the CRC of byte b at position i of a CRC, moved over streamBytes zero bytes.
uint32_t shift[4][256];
bool hasInstruction = false;

uint32_t byTable(uint32_t crc, const uint8_t *bytes, size_t length) {
  for (; length >= 8; bytes += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    word ^= crc;
    crc = 0;
    for (int index = 0; index < 8; index += 1) crc ^= table[7 - index][(word >> (8 * index)) & 255];
  }
  for (; length > 0; bytes += 1, length -= 1) crc = table[0][(crc ^ *bytes) & 255] ^ (crc >> 8);
  return crc;
}

void fillTables() {
  for (uint32_t byte = 0; byte < 256; byte += 1) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit += 1) crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0);
    table[0][byte] = crc;
  }
  for (int index = 1; index < 8; index += 1)
    for (int byte = 0; byte < 256; byte += 1)
      table[index][byte] =
          table[0][table[index - 1][byte] & 255] ^ (table[index - 1][byte] >> 8);
  static const uint8_t zeroes[streamBytes] = {};
  for (int position = 0; position < 4; position += 1)
    for (uint32_t byte = 0; byte < 256; byte += 1)
      shift[position][byte] = byTable(byte << (8 * position), zeroes, streamBytes);
}

#if defined(__x86_64__)
uint32_t shifted(uint32_t crc) {
  return shift[0][crc & 255] ^ shift[1][(crc >> 8) & 255] ^ shift[2][(crc >> 16) & 255] ^
         shift[3][crc >> 24];
}

__attribute__((target("sse4.2"))) uint32_t byInstruction(uint32_t crc, const uint8_t *bytes,
                                                         size_t length) {
  auto word = [](const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
  };
  for (; length >= 3 * streamBytes; bytes += 3 * streamBytes, length -= 3 * streamBytes) {
    uint64_t first = crc, second = 0, third = 0;
    for (size_t at = 0; at < streamBytes; at += 8) {
      first = _mm_crc32_u64(first, word(bytes + at));
      second = _mm_crc32_u64(second, word(bytes + streamBytes + at));
      third = _mm_crc32_u64(third, word(bytes + 2 * streamBytes + at));
    }
    const uint32_t two = shifted(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second);
    crc = shifted(two) ^ static_cast<uint32_t>(third);
  }
  uint64_t rest = crc;
  for (; length >= 8; bytes += 8, length -= 8) rest = _mm_crc32_u64(rest, word(bytes));
  crc = static_cast<uint32_t>(rest);
  for (; length > 0; bytes += 1, length -= 1) crc = _mm_crc32_u8(crc, *bytes);
  return crc;
}
#endif

// (bytes, seed) -> unsigned 32-bit CRC
napi_value checksum(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  const Bytes bytes = bytesOf(env, arguments[0]);
  const uint32_t seed = static_cast<uint32_t>(integerOf(env, arguments[1]));
  napi_value result;
  napi_create_uint32(env, crc32c(bytes.data, bytes.length, seed), &result);
  return result;
}

// (bytes, blockBytes, out, index): the CRC of each block into out[index...]
napi_value checksumBlocks(napi_env env, napi_callback_info info) {
  Arguments<4> arguments(env, info);
  const Bytes bytes = bytesOf(env, arguments[0]);
  const size_t blockBytes = static_cast<size_t>(integerOf(env, arguments[1]));
  const Bytes out = bytesOf(env, arguments[2]);
  size_t index = static_cast<size_t>(integerOf(env, arguments[3]));
  auto *words = reinterpret_cast<uint32_t *>(out.data);
  for (size_t at = 0; at + blockBytes <= bytes.length && (index + 1) * 4 <= out.length;
       at += blockBytes, index += 1)
    words[index] = crc32c(bytes.data + at, blockBytes, 0);
  return nullptr;
}

}  // namespace

uint32_t crc32c(const uint8_t *bytes, size_t length, uint32_t seed) {
#if defined(__x86_64__)
  if (hasInstruction) return ~byInstruction(~seed, bytes, length);
#endif
  return ~byTable(~seed, bytes, length);
}

void registerChecksum(napi_env env, napi_value exports) {
  fillTables();
#if defined(__x86_64__)
  hasInstruction = __builtin_cpu_supports("sse4.2") != 0;
#endif
  define(env, exports, "crc32c", checksum);
  define(env, exports, "crc32cBlocks", checksumBlocks);
}

}  // namespace wharf
