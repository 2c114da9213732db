/**
 * Keeps the attempts of a sender that lost an answer from meeting the attempts that came after it.
 * Per sender: requests of one session and generation run side by side. The first one of a newer
 * generation waits until all older ones have ended; older ones that come after it are refused, and
 * nobody waits for their answer any more.
 */

import { StorageError } from '../../core/errors.ts';
import type { HostId } from '../../core/units.ts';

interface Sender {
  session: number;
  generation: number;
  underWay: number;
  /** Of older generations; the newer ones wait for it. */
  older: Promise<void>;
  ended: () => void;
}

export class RequestOrder {
  readonly #senders = new Map<HostId, Sender>();

  /** Throws `unavailable` for a request that is too late. */
  async run<T>(
    from: HostId,
    { session, generation }: { readonly session: number; readonly generation: number },
    action: () => Promise<T> | T,
  ): Promise<T> {
    const known = this.#senders.get(from);
    const age = known === undefined ? 1 : compare(known, session, generation);
    if (age < 0) throw new StorageError('unavailable', 'a later attempt of this request has come');
    const sender = age === 0 ? (known as Sender) : begin(known, session, generation);
    if (age > 0) this.#senders.set(from, sender);
    sender.underWay += 1;
    try {
      await sender.older;
      return await action();
    } finally {
      sender.underWay -= 1;
      if (sender.underWay === 0) sender.ended();
    }
  }
}

/** Above 0 where the request is newer than what is known of its sender. */
function compare(known: Sender, session: number, generation: number): number {
  return session - known.session || generation - known.generation;
}

function begin(known: Sender | undefined, session: number, generation: number): Sender {
  let older = Promise.resolve();
  if (known && known.underWay > 0) {
    const { older: before } = known;
    older = new Promise<void>((resolve) => {
      known.ended = resolve;
    }).then(() => before);
  }
  return { session, generation, underWay: 0, older, ended: () => {} };
}
