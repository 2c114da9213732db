import { nativeChecksum, tableChecksum } from '../platform/checksum.ts';
import { loadNative } from '../platform/native.ts';
import type { Checksum } from '../ports/checksum.ts';

/** By the addon where there is one. */
export function bestChecksum(): Checksum {
  const { native } = loadNative();
  return native ? nativeChecksum(native) : tableChecksum();
}
