/**
 * A network in memory between the hosts of one process, for tests of routers. Links are cut in one
 * direction or both: what is sent over a cut link never arrives, and the sender learns it at once.
 */

import { StorageError } from '../../src/core/errors.ts';
import type { HostId } from '../../src/core/units.ts';
import type { PeerAddress, PeerHandler, PeerMessage, Peers } from '../../src/ports/peers.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

const copyOf = ({ kind, head, payload }: PeerMessage): PeerMessage => ({
  kind,
  head: new Uint8Array(head),
  payload: new Uint8Array(payload),
});

export class MemoryNetwork {
  readonly #handlers = new Map<string, PeerHandler>();
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
    this.#handlers.set(address, handler);
    const isCut = (from: HostId, to: HostId) => this.#cut.has(`${from}>${to}`);
    return {
      call: async ({ host: to, address: at }: PeerAddress, message) => {
        const sent = copyOf(message);
        await turn();
        await this.delay(message.kind);
        const serve = this.#handlers.get(at);
        if (!serve || isCut(host, to)) throw new StorageError('unavailable', `no way to ${to}`);
        this.counts.set(message.kind, (this.counts.get(message.kind) ?? 0) + 1);
        const answer = copyOf(await serve(host, sent));
        await turn();
        await this.delayAnswer(message.kind);
        if (this.losesAnswer(message.kind) || isCut(to, host) || !this.#handlers.has(at))
          throw new StorageError('unknown_outcome', `no answer from ${to}`);
        return answer;
      },
      close: async () => this.leave(address),
    };
  }

  leave(address: string): void {
    this.#handlers.delete(address);
  }
}
