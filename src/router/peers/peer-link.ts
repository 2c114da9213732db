/**
 * Requests of this host's router to another one's. Requests are repeated when their answer is lost,
 * and a repeated write must not overtake, nor be overtaken by, the attempt whose answer was lost:
 * so each request carries the sender's session and generation, the generation grows with every
 * lost answer, and the receiver lets a new one begin only when all of the old ones have ended, and
 * refuses what comes of the old ones later (see request-order.ts).
 */

import { isStorageError } from '../../core/errors.ts';
import type { ObjectId } from '../../core/units.ts';
import type { AnswerHead } from '../../format/peer-message.ts';
import { decodeAnswerHead, encodeRequestHead } from '../../format/peer-message.ts';
import type { PeerAddress, Peers } from '../../ports/peers.ts';
import type { HostRecord } from '../../registry/host-records.ts';

/** A request may wait for an object store; that the peer lives is seen by the transport. */
const deadlineMs = 120_000;
const nothing = new Uint8Array(0);

export interface PeerRequest {
  readonly kind: number;
  readonly epoch?: number;
  readonly offset?: number;
  readonly length?: number;
  readonly payload?: Uint8Array;
  readonly signal?: AbortSignal;
  /** As CallOptions has it. */
  readonly into?: Uint8Array;
}

export interface PeerAnswer {
  readonly head: AnswerHead;
  readonly payload: Uint8Array;
}

/** Grows with every answer that is lost. */
interface Attempts {
  generation: number;
}

export class PeerLink {
  readonly peer: PeerAddress;
  readonly #peers: Peers;
  readonly #session: () => number;
  readonly #attempts: Attempts;

  constructor(peers: Peers, peer: PeerAddress, session: () => number, attempts: Attempts) {
    this.#peers = peers;
    this.peer = peer;
    this.#session = session;
    this.#attempts = attempts;
  }

  ask(id: ObjectId, request: PeerRequest): Promise<PeerAnswer> {
    const { kind, epoch = 0, offset = 0, length = 0, payload = nothing, signal, into } = request;
    const attempts = this.#attempts;
    const { generation } = attempts;
    const session = this.#session();
    const head = encodeRequestHead({ id, session, generation, epoch, offset, length });
    const options = { deadlineMs, signal, into };
    return this.#peers.call(this.peer, { kind, head, payload }, options).then(
      (answer) => ({ head: decodeAnswerHead(answer.head), payload: answer.payload }),
      (error: unknown) => {
        if (isStorageError(error, 'unknown_outcome') && attempts.generation === generation)
          attempts.generation += 1;
        throw error;
      },
    );
  }
}

/**
 * One link for each process of another host. Generations belong to the host: what is sent to a process
 * that has ended may reach the next one, which listens where that one did, and must not be newer there
 * than all that comes after it.
 */
export class PeerLinks {
  readonly #peers: Peers;
  readonly #session: () => number;
  readonly #links = new Map<string, { readonly instance: string; readonly link: PeerLink }>();
  readonly #attempts = new Map<string, Attempts>();

  constructor(peers: Peers, session: () => number) {
    this.#peers = peers;
    this.#session = session;
  }

  to({ id, instance, address }: HostRecord): PeerLink {
    const known = this.#links.get(id);
    if (known?.instance === instance) return known.link;
    const attempts = this.#attempts.get(id) ?? { generation: 0 };
    this.#attempts.set(id, attempts);
    const link = new PeerLink(this.#peers, { host: id, address }, this.#session, attempts);
    this.#links.set(id, { instance, link });
    return link;
  }
}
