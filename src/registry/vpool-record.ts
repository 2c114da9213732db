/** What a vPool is, fixed when it is made. */

import { StorageError } from '../core/errors.ts';
import type { Random } from '../ports/random.ts';
import type { Registry } from '../ports/registry.ts';
import { encodeRecord, RecordReader } from './record.ts';

export interface VpoolRecord {
  readonly name: string;
  /** 16 bytes in hex: keys the hash of names, so that nobody can choose colliding ones. */
  readonly salt: string;
}

const key = 'vpool';

export async function openVpool(
  registry: Registry,
  random: Random,
  name: string,
): Promise<VpoolRecord> {
  const found = await registry.get(key);
  if (found) {
    const fields = new RecordReader('vPool', found.value);
    const kept = fields.text('name');
    if (kept !== name)
      throw new StorageError(
        'invalid',
        `vpool: found ${name}; allowed is ${kept}, whose registry this is`,
      );
    return { name, salt: fields.text('salt') };
  }
  const salt = Buffer.from(random.bytes(16)).toString('hex');
  const write = { key, put: encodeRecord({ name, salt }) };
  await registry.transact({ compares: [{ key, is: 'absent' }], writes: [write] });
  return openVpool(registry, random, name);
}
