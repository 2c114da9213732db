/** What a scrub finds in a vPool. */

import type { Ino, ObjectId } from '../core/units.ts';
import type { Transaction } from './registry.ts';

export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

export interface Finding {
  /**
   * `damage`: something that is named is not there, or not as it should be; `waste`: something that
   * is there and nobody names; `foreign`: something that Wharf did not put there and never touches.
   */
  readonly kind: 'damage' | 'waste' | 'foreign';
  /** In words. */
  readonly what: string;
  readonly object?: ObjectId;
  /** Of the object's file, where it has one. */
  readonly path?: string;
  /** Where it is a snapshot that is affected, and not the volume as it is now. */
  readonly snapshot?: string;
  /** Of the volume or file: what can't be read. At most `rangesMax`, the first ones. */
  readonly ranges?: readonly ByteRange[];
  /** Bytes that can't be read, or that are wasted. */
  readonly bytes?: number;
  /** What to do about it. */
  readonly advice?: string;
  readonly isRepaired?: boolean;
}

/** Ranges that one finding lists. */
export const rangesMax = 100;

/** Adds a range; those that touch become one. */
export function addRange(ranges: ByteRange[], offset: number, bytes: number): void {
  const last = ranges.at(-1);
  if (last && last.offset + last.bytes === offset)
    ranges[ranges.length - 1] = { offset: last.offset, bytes: last.bytes + bytes };
  else ranges.push({ offset, bytes });
}

/** What is wrong in the registry, and the transaction that heals it where there is one. */
export interface Problem extends Pick<Finding, 'kind' | 'what' | 'object' | 'advice'> {
  readonly ino?: Ino;
  readonly repair?: Transaction;
  /** After the repair: the object's data goes, or what nobody reaches of it. */
  readonly then?: 'delete' | 'collect';
}

/**
 * Something that looks wrong, and may be on its way from one state to another: who asks again a
 * little later, and again hears of it, knows.
 */
export type Suspicion = () => Promise<Problem | undefined>;
