/**
 * What of the registry is copied into the buckets: every key but those that mean nothing without the
 * hosts that wrote them, and heads of volumes, which change all the time and lie in the volumes' own
 * buckets. A kind of key that is new is copied by itself.
 */

import type { KeyRange } from '../../ports/registry.ts';
import { prefixRange } from '../../ports/registry.ts';

/** Of what the copy itself keeps in the registry. */
export const copyPrefix = 'W';

/** Sorted; none is the beginning of another. */
const leftOut = [
  'H', // hosts that are up
  copyPrefix,
  'hv', // heads of volumes
  'joining', // who joined last
  't', // slots of hosts' transactions
  'z', // a scrub that goes on
] as const;

/** Of all keys. */
export const everyKey: KeyRange = prefixRange('');

/** Snapshots that last as long as what a host does with them. */
const passing = /^s[0-9a-f]{32}\.(scrub|moment-)/;

export function isCopied(key: string): boolean {
  return !leftOut.some((prefix) => key.startsWith(prefix)) && !passing.test(key);
}

/** What is copied, as ranges in ascending order. */
export const copiedRanges: readonly KeyRange[] = (() => {
  const ranges: KeyRange[] = [];
  let { from } = everyKey;
  for (const prefix of leftOut) {
    ranges.push({ from, to: prefix });
    from = prefixRange(prefix).to;
  }
  return [...ranges, { from, to: everyKey.to }];
})();
