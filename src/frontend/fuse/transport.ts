/**
 * What carries the requests of a mount: /dev/fuse, or the ring where it was asked for and is to be
 * had. It is settled with INIT: until then everything goes over /dev/fuse, and some always does.
 */

import type { InitRequest } from '../../format/fuse/init.ts';
import { initFlag2 } from '../../format/fuse/protocol.ts';
import type { Native, NativeDevice } from '../../platform/native.ts';
import type { Log } from '../../ports/log.ts';
import type { RingPlan } from './ring-plan.ts';
import { notOffered, whyRefused } from './ring-plan.ts';

export class Transport {
  readonly #native: Native;
  readonly #log: Log;
  readonly #plan: RingPlan | undefined;
  #why: string | undefined;
  #isRing = false;

  /** `wanted`: the ring, or why there can be none, or that nobody asked. */
  constructor(native: Native, log: Log, wanted: RingPlan | string | undefined) {
    this.#native = native;
    this.#log = log;
    this.#plan = typeof wanted === 'object' ? wanted : undefined;
    if (typeof wanted === 'string') this.#fallBack(wanted);
  }

  /** Slots that a ring would have. */
  get ringSlots(): number {
    return this.#plan ? this.#plan.queues * this.#plan.slotsEach : 0;
  }

  /** For people. */
  get text(): string {
    if (this.#isRing) return 'io_uring';
    return this.#why === undefined ? '/dev/fuse' : `/dev/fuse (no io_uring: ${this.#why})`;
  }

  /** Whether INIT is to be answered with the wish for a ring. */
  open(device: NativeDevice, offer: InitRequest): boolean {
    if (!this.#plan) return false;
    if ((offer.flags2 & initFlag2.overIoUring) === 0) return this.#fallBack(notOffered);
    const status = this.#native.fuseRingOpen(device, this.#plan.slotsEach);
    return status === 0 || this.#fallBack(whyRefused(-status));
  }

  /** After that answer. Gives how many requests of one processor may be under way from now on. */
  start(device: NativeDevice): number | undefined {
    if (!this.#plan) return undefined;
    const status = this.#native.fuseRingStart(device);
    this.#isRing = status === 0 || this.#fallBack(whyRefused(-status));
    return this.#isRing ? this.#plan.slotsEach : undefined;
  }

  #fallBack(why: string): false {
    this.#why = why;
    this.#log.warn({ why }, 'no io_uring: FUSE requests go over /dev/fuse');
    return false;
  }
}
