/**
 * A network in memory between the hosts of one process, for tests of routers. Links are cut in one
 * direction or both: what is sent over a cut link never arrives, and the sender learns it at once.
 */

import { aborted } from '../../src/core/aborted.ts';
import { describeError, isStorageError, StorageError } from '../../src/core/errors.ts';
import type { HostId } from '../../src/core/units.ts';
import type { PeerAddress, PeerHandler, PeerMessage, Peers } from '../../src/ports/peers.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

const copyOf = ({ kind, head, payload }: PeerMessage): PeerMessage => ({
  kind,
  head: new Uint8Array(head),
  payload: new Uint8Array(payload),
});

interface Place {
  readonly handler: PeerHandler;
  /** Aborted when nobody is there any more, with what those learn who wait for answers. */
  readonly gone: AbortController;
}

type CallOptions = Parameters<Peers['call']>[2];

const noAnswer = (from: string) =>
  new StorageError('unknown_outcome', `no answer from host ${from}`);

export class MemoryNetwork {
  readonly #places = new Map<string, Place>();
  readonly #cut = new Set<string>();
  /** Messages that arrived, by kind. */
  readonly counts = new Map<number, number>();
  /** Asked for each message that has arrived and was handled: whether its answer gets lost. */
  losesAnswer: (kind: number) => boolean = () => false;
  /** Asked for each message that was handled: what its answer waits for. */
  delayAnswer: (kind: number) => Promise<void> | undefined = () => undefined;
  /** Asked for each message before it arrives: what it waits for. */
  delay: (kind: number) => Promise<void> | undefined = () => undefined;

  /** What `from` sends to `to` is lost from now on. */
  cut(from: HostId, to: HostId): void {
    this.#cut.add(`${from}>${to}`);
  }

  mend(): void {
    this.#cut.clear();
  }

  /** The peers as `host` sees them; it serves its own address from now on. */
  join(host: HostId, address: string, handler: PeerHandler): Peers {
    const gone = new AbortController();
    this.#places.set(address, { handler, gone });
    return {
      call: async (to, message, options) => {
        if (gone.signal.aborted) throw new StorageError('closed', 'this host is stopping');
        options.signal?.throwIfAborted();
        return settled(this.#carry(host, to, message), to, options, gone.signal);
      },
      close: async () => this.leave(address),
    };
  }

  /** Calls under way to and from there end without an answer, and nobody makes any from there. */
  leave(address: string): void {
    const reason = new StorageError('unknown_outcome', 'the host is gone');
    this.#places.get(address)?.gone.abort(reason);
    this.#places.delete(address);
  }

  async #carry(from: HostId, to: PeerAddress, message: PeerMessage): Promise<PeerMessage> {
    const sent = copyOf(message);
    await turn();
    await this.delay(message.kind);
    const place = this.#places.get(to.address);
    if (!place || this.#isCut(from, to.host))
      throw new StorageError('unavailable', `no way to host ${to.host}`);
    this.counts.set(message.kind, (this.counts.get(message.kind) ?? 0) + 1);
    return Promise.race([this.#answer(place, from, to, sent), aborted(place.gone.signal)]);
  }

  async #answer(place: Place, from: HostId, to: PeerAddress, sent: PeerMessage) {
    const answer = await handled(place.handler, from, sent);
    await turn();
    await this.delayAnswer(sent.kind);
    if (this.losesAnswer(sent.kind) || this.#isCut(to.host, from)) throw noAnswer(to.host);
    return answer();
  }

  #isCut(from: HostId, to: HostId): boolean {
    return this.#cut.has(`${from}>${to}`);
  }
}

/** Gives or throws what travels back: copies, and codes of errors. */
async function handled(
  handler: PeerHandler,
  from: HostId,
  message: PeerMessage,
): Promise<() => PeerMessage> {
  try {
    const answer = copyOf(await handler(from, message));
    return () => answer;
  } catch (error) {
    const code = isStorageError(error) ? error.code : 'failed';
    return () => {
      throw new StorageError(code, describeError(error));
    };
  }
}

/** Nobody waits for an answer longer than he wants to. */
async function settled(
  answer: Promise<PeerMessage>,
  { host }: PeerAddress,
  { deadlineMs, signal }: CallOptions,
  gone: AbortSignal,
): Promise<PeerMessage> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(noAnswer(host)), deadlineMs);
  const ends = [deadline.signal, gone, ...(signal ? [signal] : [])];
  try {
    return await Promise.race([answer, aborted(AbortSignal.any(ends))]);
  } finally {
    clearTimeout(timer);
  }
}
