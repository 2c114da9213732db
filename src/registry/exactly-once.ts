/**
 * Transactions that happen once or not at all, whatever becomes of their answers.
 *
 * To repeat a transaction whose answer was lost is wrong: it may have committed, others may have
 * built on it, and the repetition would either do it twice or report a conflict with itself. To
 * look at its keys does not help: others may have overwritten them since, or written the same. And
 * it may still be on its way. So each transaction also replaces the token in a slot, a key of this
 * process that no other transaction in flight uses, and compares the slot's revision:
 *
 *   t<name>/<slot>   token of the last transaction that committed in the slot
 *
 * - Nobody else writes the slot, so the transaction can commit once at most: its own token has moved
 *   the slot to another revision.
 * - After a lost answer the slot tells. It holds the token: committed, at the slot's revision. It
 *   does not: a second transaction moves the slot to another revision. Once that has committed, the
 *   first one can't any more, however late it arrives, and may be made anew. If it can't commit,
 *   the first one has: the slot is read again.
 *
 * The price is a compare and a small put in a transaction that is made anyway: no round trip, no
 * fsync. Slots are used again, so there are as many as transactions were ever in flight at once. They
 * are named by host: a process takes over the slots of the one before, and a forgotten process that
 * still runs finds its slots moved and is `fenced`.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Random } from '../ports/random.ts';
import type { Compare, Outcome, Registry, Transaction } from '../ports/registry.ts';

interface Slot {
  readonly key: string;
  /** Undefined: transactions of an earlier user may be on their way. */
  revision: number | undefined;
}

type Waiting = Pick<Registry, 'get' | 'transact'>;

/** What belongs to one call. */
interface Call {
  readonly inner: Waiting;
  readonly slot: Slot;
  readonly options: CallOptions;
}

export class ExactlyOnce {
  readonly #name: string;
  readonly #process: Buffer;
  readonly #free: Slot[] = [];
  #slots = 0;
  #tokens = 0;

  /** `name`: one process at a time has it, such as the host's. */
  constructor(name: string, random: Random) {
    this.#name = name;
    this.#process = Buffer.from(random.bytes(8));
  }

  /** `inner` waits by itself while it is `unavailable`, and a little after a lost answer. */
  async transact(inner: Waiting, transaction: Transaction, options: CallOptions): Promise<Outcome> {
    const slot = this.#free.pop() ?? this.#makeSlot();
    const call = { inner, slot, options };
    try {
      for (;;) {
        // Nothing of an earlier user of the slot commits behind this.
        if (slot.revision === undefined) await this.#settle(call, undefined, this.#nextToken());
        const outcome = await this.#attempt(call, transaction);
        if (outcome !== 'never') return outcome;
      }
    } finally {
      this.#free.push(slot);
    }
  }

  /** `never`: nothing happened and nothing will, but nothing speaks against it either. */
  async #attempt(call: Call, { compares, writes }: Transaction): Promise<Outcome | 'never'> {
    const { inner, slot, options } = call;
    const revision = slot.revision as number;
    const token = this.#nextToken();
    const guarded = {
      compares: [...compares, { key: slot.key, is: 'at', revision } as const],
      writes: [...writes, { key: slot.key, put: token }],
    };
    // Until it is settled: an abort or another error leaves the slot in doubt.
    slot.revision = undefined;
    try {
      const outcome = await inner.transact(guarded, options);
      if (outcome.committed) slot.revision = outcome.revision;
      else await this.#assertMine(call, revision);
      return outcome;
    } catch (error) {
      if (!isStorageError(error, 'unknown_outcome')) throw error;
    }
    return (await this.#settle(call, revision, token)) ?? 'never';
  }

  /** Finds the transaction of `token` committed, or moves the slot so that it never will be. */
  async #settle(
    { inner, slot, options }: Call,
    revision: number | undefined,
    token: Buffer,
  ): Promise<Outcome | undefined> {
    const { key } = slot;
    const fence = this.#nextToken();
    for (;;) {
      const found = await inner.get(key, options);
      const isCommitted = found !== undefined && token.equals(found.value);
      if (found && (isCommitted || fence.equals(found.value))) {
        slot.revision = found.revision;
        return isCommitted ? { committed: true, revision: found.revision } : undefined;
      }
      if (revision !== undefined && found?.revision !== revision) throw superseded(slot);
      const compare: Compare = found
        ? { key, is: 'at', revision: found.revision }
        : { key, is: 'absent' };
      const writes = [{ key, put: fence }];
      try {
        await inner.transact({ compares: [compare], writes }, options);
      } catch (error) {
        if (!isStorageError(error, 'unknown_outcome')) throw error;
      }
    }
  }

  /** A transaction that did not commit found its own compares broken, not the slot's. */
  async #assertMine({ inner, slot, options }: Call, revision: number): Promise<void> {
    const found = await inner.get(slot.key, options);
    if (found?.revision !== revision) throw superseded(slot);
    slot.revision = revision;
  }

  #makeSlot(): Slot {
    this.#slots += 1;
    return { key: `t${this.#name}/${this.#slots}`, revision: undefined };
  }

  #nextToken(): Buffer {
    this.#tokens += 1;
    const count = Buffer.alloc(8);
    count.writeBigUInt64BE(BigInt(this.#tokens));
    return Buffer.concat([this.#process, count]);
  }
}

function superseded({ key }: Slot): StorageError {
  return new StorageError('fenced', 'another process with the name of this one uses the registry', {
    detail: { key },
  });
}
