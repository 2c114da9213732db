/** Hands out the sequence numbers of a tenure's segments and keeps the log's backward chain. */

import { invariant } from '../core/invariant.ts';
import type { Epoch, ObjectId } from '../core/units.ts';
import type { SegmentName } from './segment-usage.ts';

export class SegmentSequencer {
  readonly objectId: ObjectId;
  readonly epoch: Epoch;
  #last = 0;
  #lastData: SegmentName;

  /** `lastData`: the data segment committed last, by whatever tenure; 0, 0: none. */
  constructor(objectId: ObjectId, epoch: Epoch, lastData: SegmentName) {
    this.objectId = objectId;
    this.epoch = epoch;
    this.#lastData = lastData;
  }

  get lastData(): SegmentName {
    return this.#lastData;
  }

  /** The segment that was named last in this tenure. */
  get last(): SegmentName {
    return { epoch: this.epoch, sequence: this.#last };
  }

  next(): number {
    invariant(this.#last < 0xffff_ffff, 'a tenure has fewer than 2^32 segments');
    this.#last += 1;
    return this.#last;
  }

  /** The sequence of a data segment, and the one before it. */
  nextData(): { readonly sequence: number; readonly previous: SegmentName } {
    const previous = this.#lastData;
    const sequence = this.next();
    this.#lastData = { epoch: this.epoch, sequence };
    return { sequence, previous };
  }
}
