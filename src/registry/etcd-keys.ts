/** Keys of the port as etcd has them: bytes, under a prefix of Wharf's own. */

import type { KeyRange } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';

const prefix = 'wharf/';
const end = Buffer.from(prefixRange(prefix).to, 'latin1');

export function bytesOfKey(key: string): Buffer {
  return Buffer.from(prefix + key, 'latin1');
}

export function keyOfBytes(bytes: Buffer): string {
  return bytes.toString('latin1', prefix.length);
}

export function endOfRange({ to }: KeyRange): Buffer {
  return to.charCodeAt(0) > 0xff ? end : bytesOfKey(to);
}
