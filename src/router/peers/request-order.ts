/**
 * Keeps the attempts of a sender that lost an answer from meeting the attempts that came after it.
 * Per sender: requests of one session and generation run side by side. The first one of a newer
 * generation waits until all older ones have ended; older ones that come after it are refused, and
 * nobody waits for their answer any more.
 */

import { StorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import { isPending } from '../../core/eventually.ts';
import type { HostId } from '../../core/units.ts';

interface Sender {
  session: number;
  generation: number;
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
    { session, generation }: { readonly session: number; readonly generation: number },
    action: () => Eventually<T>,
  ): Eventually<T> {
    const known = this.#senders.get(from);
    const age = known === undefined ? 1 : compare(known, session, generation);
    if (age < 0) throw new StorageError('unavailable', 'a later attempt of this request has come');
    const sender = age === 0 ? (known as Sender) : begin(known, session, generation);
    if (age > 0) this.#senders.set(from, sender);
    sender.underWay += 1;
    let isOver = true;
    try {
      const result = sender.older ? sender.older.then(action) : action();
      if (!isPending(result)) return result;
      isOver = false;
      return result.finally(() => end(sender));
    } finally {
      if (isOver) end(sender);
    }
  }
}

/** Above 0 where the request is newer than what is known of its sender. */
function compare(known: Sender, session: number, generation: number): number {
  return session - known.session || generation - known.generation;
}

function begin(known: Sender | undefined, session: number, generation: number): Sender {
  const sender: Sender = { session, generation, underWay: 0, older: undefined, ended: () => {} };
  if (known && known.underWay > 0) {
    const { older: before } = known;
    sender.older = new Promise<void>((resolve) => {
      known.ended = resolve;
    })
      .then(() => before)
      .then(() => {
        sender.older = undefined;
      });
  }
  return sender;
}

function end(sender: Sender): void {
  sender.underWay -= 1;
  if (sender.underWay === 0) sender.ended();
}
