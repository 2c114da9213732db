/**
 * Settings that all hosts of a vPool need alike: each host's record shows its own, by key, as they are
 * written. What is to be kept secret is shown by a fingerprint, and never told.
 */

import { StorageError } from '../core/errors.ts';

export type SharedSettings = Readonly<Record<string, string>>;

interface Host {
  readonly id: string;
  readonly address: string;
  readonly shared: SharedSettings;
}

const secrets: ReadonlySet<string> = new Set(['peers.key']);

/** Throws `invalid`. A key that only one of them knows, of another version, is no difference. */
export function checkShared(shared: SharedSettings, other: Host): void {
  const where = `host ${other.id} (${other.address})`;
  for (const [key, mine] of Object.entries(shared)) {
    const theirs = other.shared[key];
    if (theirs === undefined || theirs === mine) continue;
    const difference = secrets.has(key)
      ? `found another key than ${where} has; allowed is the same key on all hosts`
      : `found ${mine} where ${where} has ${theirs}; allowed is the same on all hosts`;
    throw new StorageError('invalid', `${key}: ${difference}`);
  }
}
