/**
 * Keeps the attempts of a sender that lost an answer from meeting the attempts that came after it.
 * Per sender: requests of one session and generation run side by side. The first one of a newer
 * generation waits until all older ones for the same object have ended; older ones that come after it
 * are refused, and nobody waits for their answer any more. Requests for other objects are not waited
 * for: one of them may be waiting for the sender itself, where this one holds it up.
 */

import { StorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import { isPending } from '../../core/eventually.ts';
import type { HostId, ObjectId } from '../../core/units.ts';

interface Attempt {
  readonly session: number;
  readonly generation: number;
}

interface Sender {
  /** The newest that has come. */
  newest: Attempt;
  /** What is under way of the newest that each object has. */
  readonly objects: Map<ObjectId, Batch>;
}

interface Batch extends Attempt {
  underWay: number;
  /** Of older generations; the newer ones wait for it. Undefined when there is none any more. */
  older: Promise<void> | undefined;
  ended: () => void;
}

export class RequestOrder {
  readonly #senders = new Map<HostId, Sender>();

  /** Throws `unavailable` for a request that is too late. */
  run<T>(
    from: HostId,
    { id, session, generation }: Attempt & { readonly id: ObjectId },
    action: () => Eventually<T>,
  ): Eventually<T> {
    const sender = this.#senderOf(from);
    const age = compare(sender.newest, session, generation);
    if (age < 0) throw new StorageError('unavailable', 'a later attempt of this request has come');
    if (age > 0) sender.newest = { session, generation };
    const known = sender.objects.get(id);
    const isSame = known !== undefined && compare(known, session, generation) === 0;
    const batch = isSame ? known : begin(known, session, generation);
    if (!isSame) sender.objects.set(id, batch);
    batch.underWay += 1;
    let isOver = true;
    try {
      const result = batch.older ? batch.older.then(action) : action();
      if (!isPending(result)) return result;
      isOver = false;
      return result.finally(() => end(sender, id, batch));
    } finally {
      if (isOver) end(sender, id, batch);
    }
  }

  #senderOf(from: HostId): Sender {
    let sender = this.#senders.get(from);
    if (!sender) {
      sender = { newest: { session: 0, generation: 0 }, objects: new Map() };
      this.#senders.set(from, sender);
    }
    return sender;
  }
}

/** Above 0 where the request is newer than the one that is known. */
function compare(known: Attempt, session: number, generation: number): number {
  return session - known.session || generation - known.generation;
}

function begin(known: Batch | undefined, session: number, generation: number): Batch {
  const batch: Batch = { session, generation, underWay: 0, older: undefined, ended: () => {} };
  if (known) {
    const { older: before } = known;
    batch.older = new Promise<void>((resolve) => {
      known.ended = resolve;
    })
      .then(() => before)
      .then(() => {
        batch.older = undefined;
      });
  }
  return batch;
}

function end({ objects }: Sender, id: ObjectId, batch: Batch): void {
  batch.underWay -= 1;
  if (batch.underWay > 0) return;
  batch.ended();
  if (objects.get(id) === batch) objects.delete(id);
}
