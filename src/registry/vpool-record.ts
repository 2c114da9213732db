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

export const vpoolKey = 'vpool';
/** There while a recovery puts the registry together: {vpool}. */
export const recoveryKey = 'Wrecovery';

export function decodeVpool(bytes: Uint8Array): VpoolRecord {
  const fields = new RecordReader('vPool', bytes);
  return { name: fields.text('name'), salt: fields.text('salt') };
}

/** Undefined where the registry has none yet. `invalid` where it is another one's, or half of one. */
export async function findVpool(
  registry: Registry,
  name: string,
): Promise<VpoolRecord | undefined> {
  if (await registry.get(recoveryKey))
    throw new StorageError(
      'invalid',
      `registry: found one that is recovered in part; run \`wharf vpool recover ${name}\` again`,
    );
  const found = await registry.get(vpoolKey);
  if (!found) return undefined;
  const record = decodeVpool(found.value);
  if (record.name !== name)
    throw new StorageError(
      'invalid',
      `vpool: found ${name}; allowed is ${record.name}, whose registry this is`,
    );
  return record;
}

/** Gives it, made where there is none. */
export async function openVpool(
  registry: Registry,
  random: Random,
  name: string,
): Promise<VpoolRecord> {
  for (;;) {
    const found = await findVpool(registry, name);
    if (found) return found;
    const salt = Buffer.from(random.bytes(16)).toString('hex');
    const write = { key: vpoolKey, put: encodeRecord({ name, salt }) };
    const compares = [vpoolKey, recoveryKey].map(
      (absent) => ({ key: absent, is: 'absent' }) as const,
    );
    await registry.transact({ compares, writes: [write] });
  }
}
