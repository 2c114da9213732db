/**
 * Brings questions about locks to the owner of the object, on this host or another, and answers
 * those of other hosts.
 *
 * Lock messages have links and an order of their own: they may wait for hosts that are gone, and
 * no I/O shall wait for them. Only those that change something keep the order in which they came.
 */

import { StorageError } from '../../core/errors.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { decodeLocks, encodeLocks } from '../../format/lock-message.ts';
import type { RequestHead } from '../../format/peer-message.ts';
import { decodeRequestHead, encodeAnswerHead, peerKind } from '../../format/peer-message.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { FoundLock } from '../../ports/object-locks.ts';
import type { PeerMessage, Peers } from '../../ports/peers.ts';
import type { HostRecord, HostRecords } from '../../registry/host-records.ts';
import type { HeldLocks } from './held-locks.ts';
import type { HostLocks } from './lock-arbiter.ts';
import { LockArbiter } from './lock-arbiter.ts';
import type { WantedLock } from './lock-table.ts';
import type { Membership } from '../members/membership.ts';
import type { ObjectRouter } from '../object-router.ts';
import { PeerLinks } from '../peers/peer-link.ts';
import { RequestOrder } from '../peers/request-order.ts';
import type { Here, There } from '../backing.ts';

/** How long a request waits at an owner: then a new one may decide, or a holder be gone. */
const waitMsMax = 2000;

/** What is asked of an owner: what stands in the way, a change, to wait until nothing does. */
type Question = 'find' | 'set' | 'wait';

const kindOf = {
  find: peerKind.lockFind,
  set: peerKind.lockSet,
  wait: peerKind.lockWait,
} as const satisfies Record<Question, number>;

/** The result in the answer to a change. */
const result = { granted: 0, refused: 1, grantedStale: 2 } as const;

export function isLockMessage({ kind }: PeerMessage): boolean {
  return kind >= peerKind.lockFind && kind <= peerKind.locksHeld;
}

/** What an owner says, and in which tenure. */
export interface Decision {
  /** What stands in the way. */
  readonly found: FoundLock | undefined;
  readonly isStale: boolean;
  readonly epoch: number;
}

export interface LockServiceDeps {
  readonly host: HostId;
  readonly membership: Pick<Membership, 'current' | 'session'>;
  readonly hosts: HostRecords;
  readonly router: Pick<ObjectRouter, 'open' | 'release' | 'driven'>;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly log: Log;
}

export class LockService {
  readonly #deps: LockServiceDeps;
  readonly #held: HeldLocks;
  readonly #arbiter: LockArbiter;
  readonly #links: PeerLinks;
  readonly #order = new RequestOrder();

  /** `signal` fires when this host stops. */
  constructor(deps: LockServiceDeps, held: HeldLocks, signal: AbortSignal) {
    const { hosts, clock, log, membership, peers } = deps;
    this.#deps = deps;
    this.#held = held;
    this.#links = new PeerLinks(peers, () => membership.session);
    this.#arbiter = new LockArbiter({
      ...{ hosts, clock, log, signal },
      locksOf: (host, id, epoch) => this.#locksOf(host, id, epoch),
    });
  }

  /** `not_found` where there is no such object. An owner that is away is waited for. */
  async ask(
    id: ObjectId,
    what: Question,
    wanted: WantedLock,
    signal: AbortSignal,
  ): Promise<Decision> {
    const { router } = this.#deps;
    const object = await router.open(id);
    let attempts = 0;
    try {
      const decision = await object.ask((backing) => {
        signal.throwIfAborted();
        attempts += 1;
        return backing.where === 'there'
          ? this.#forward(id, what, wanted, backing)
          : this.#decide(what, wanted, backing, () => object.isServedBy(backing));
      }, 'this host');
      // An answer that was lost may have said so.
      return { ...decision, isStale: decision.isStale || attempts > 1 };
    } finally {
      router.release(id);
    }
  }

  /** Learns the object's size anew, where another host serves it. */
  async refresh(id: ObjectId): Promise<void> {
    const { router } = this.#deps;
    const object = await router.open(id);
    try {
      await object.ask(async (backing) => {
        if (backing.where === 'there') await backing.object.refresh();
      }, 'this host');
    } finally {
      router.release(id);
    }
  }

  /** A lock message of another host. */
  async handle(from: HostId, message: PeerMessage): Promise<PeerMessage> {
    const head = decodeRequestHead(message.head);
    if (message.kind === peerKind.locksHeld) {
      const { session, locks } = this.#tell(head.id, head.epoch);
      return answer(message.kind, { result: session, epoch: 0 }, encodeLocks(locks));
    }
    const what = (['find', 'set', 'wait'] as const).find((one) => kindOf[one] === message.kind);
    const [lock, ...more] = decodeLocks(message.payload);
    if (what === undefined || lock === undefined || more.length > 0)
      throw new StorageError('invalid', 'a peer sent a lock message that is not well formed');
    const wanted = { ...lock, host: from, session: head.session };
    const decide = () => this.#decideFor(head, what, wanted);
    const { found, isStale, epoch } = await (what === 'set'
      ? this.#order.run(from, head, decide)
      : decide());
    const granted = isStale ? result.grantedStale : result.granted;
    const said = { result: found ? result.refused : granted, epoch };
    return answer(message.kind, said, encodeLocks(found ? [found] : []));
  }

  async #decideFor({ id }: RequestHead, what: Question, wanted: WantedLock): Promise<Decision> {
    const object = await this.#deps.router.driven(id);
    return object.ask(
      (backing) =>
        this.#decide(what, wanted, backing as Here, () => object.isServedBy(backing as Here)),
      'another host',
    );
  }

  async #decide(
    what: Question,
    wanted: WantedLock,
    { object: { id }, tenure }: Here,
    isCurrent: () => boolean,
  ): Promise<Decision> {
    const served = { id, tenure, isCurrent };
    const { epoch } = tenure;
    if (what === 'wait') await this.#arbiter.wait(served, wanted, waitMsMax);
    if (what === 'wait') return { found: undefined, isStale: false, epoch };
    const { found, isStale } =
      what === 'set'
        ? await this.#arbiter.set(served, wanted)
        : { found: await this.#arbiter.find(served, wanted), isStale: false };
    if (!found) return { found, isStale, epoch };
    // What number a process has on another host is of no use.
    const pid = found.host === wanted.host ? found.pid : 0;
    return { found: { ...found, pid }, isStale, epoch };
  }

  async #forward(
    id: ObjectId,
    what: Question,
    wanted: WantedLock,
    { owner }: There,
  ): Promise<Decision> {
    const host = await this.#deps.hosts.find(owner);
    if (!host) throw new StorageError('unavailable', `host ${owner} is gone`);
    const request = { kind: kindOf[what], payload: encodeLocks([wanted]) };
    const { head, payload } = await this.#links.to(host).ask(id, request);
    const found = decodeLocks(payload)[0] as FoundLock | undefined;
    return { found, isStale: head.result === result.grantedStale, epoch: head.epoch };
  }

  async #locksOf(host: HostRecord, id: ObjectId, epoch: number): Promise<HostLocks> {
    if (host.id === this.#deps.host) return this.#tell(id, epoch);
    const request = { kind: peerKind.locksHeld, epoch };
    const { head, payload } = await this.#links.to(host).ask(id, request);
    return { session: head.result, locks: decodeLocks(payload) };
  }

  #tell(id: ObjectId, epoch: number): HostLocks {
    const { session } = this.#deps.membership;
    return { session, locks: this.#held.tell(id, epoch, session) };
  }
}

function answer(
  kind: number,
  said: { readonly result: number; readonly epoch: number },
  payload: Uint8Array,
): PeerMessage {
  const head = { sizeBytes: 0, allocatedBytes: 0, isVolume: false, ...said };
  return { kind, head: encodeAnswerHead(head), payload };
}
