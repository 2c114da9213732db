/**
 * Keeps several objects as they are at one moment, whoever serves each (held-objects.ts): if B was
 * written after a write to A had been acknowledged, no B is kept without its A.
 */

import { isStorageError, StorageError } from '../../core/errors.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { within } from '../../core/within.ts';
import { decodeCareAnswer, encodeCare } from '../../format/care-message.ts';
import { peerKind } from '../../format/peer-message.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Peers } from '../../ports/peers.ts';
import type { Random } from '../../ports/random.ts';
import type { CareAnswer, CareRequest, HoldRequest } from '../../ports/volume-care.ts';
import type { HostRecords } from '../../registry/host-records.ts';
import type { ObjectRecords } from '../../registry/object-records.ts';
import type { Membership } from '../members/membership.ts';
import type { ObjectRouter } from '../object-router.ts';
import type { PeerLink } from '../peers/peer-link.ts';
import { PeerLinks } from '../peers/peer-link.ts';
import type { RoutedObject } from '../routed-object.ts';
import type { HeldObjects } from './held-objects.ts';
import { holdMsMax } from './held-objects.ts';

/** Of rounds in which an object was just changing hands. */
const attemptsMax = 5;
const attemptPauseMs = 200;

export interface MomentsDeps {
  readonly host: HostId;
  readonly records: ObjectRecords;
  readonly membership: Pick<Membership, 'session'>;
  readonly router: Pick<ObjectRouter, 'open' | 'release'>;
  readonly peers: Peers;
  readonly hosts: HostRecords;
  readonly held: HeldObjects;
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> };
  readonly random: Random;
  readonly clock: Clock;
}

export interface ToKeep {
  readonly id: ObjectId;
  /** A small file's content becomes that of this new object. */
  readonly as?: ObjectId;
}

/** Sizes of that moment. */
type Content = NonNullable<CareAnswer['content']>;

export interface Moment {
  readonly contents: readonly Content[];
  /** How long requests were held, ms, as this host saw it. */
  readonly heldMs: number;
}

interface Opened extends ToKeep {
  readonly object: RoutedObject;
}

interface Member extends Opened {
  readonly token: string;
  /** To its owner; none: this host. */
  readonly link?: PeerLink;
}

export class Moments {
  readonly #deps: MomentsDeps;
  readonly #links: PeerLinks;

  constructor(deps: MomentsDeps) {
    this.#deps = deps;
    this.#links = new PeerLinks(deps.peers, () => deps.membership.session);
  }

  /**
   * Volumes get a snapshot `name`, files are copied; resolves when all of that is on the backend.
   * Where this rejects, some of it may be there, or come to be there a moment later. `exists`, `busy`,
   * `unavailable`, `failed`.
   */
  async keep(all: readonly ToKeep[], name: string, createdNs: bigint): Promise<Moment> {
    const { router } = this.#deps;
    const opened: Opened[] = [];
    try {
      for (const one of all) opened.push({ ...one, object: await router.open(one.id) });
      const { members, ...moment } = await this.#attempt(opened, name, createdNs);
      await Promise.all(members.map((member) => this.#settle(member, name, createdNs)));
      return moment;
    } finally {
      for (const { id } of opened) router.release(id);
    }
  }

  async #attempt(
    opened: readonly Opened[],
    name: string,
    createdNs: bigint,
  ): Promise<Moment & { readonly members: readonly Member[] }> {
    const { clock } = this.#deps;
    for (let attempt = 1; ; attempt += 1) {
      const members = await Promise.all(opened.map((one) => this.#prepare(one)));
      const beganMs = clock.monotonicMs();
      try {
        await this.#hold(members, name);
      } catch (error) {
        await this.#letGo(members);
        if (!isMoving(error) || attempt === attemptsMax) throw error;
        await clock.sleep(attemptPauseMs);
        for (const { object } of members) await object.refresh();
        continue;
      }
      try {
        const contents = await this.#mark(members, name, createdNs);
        return { members, contents, heldMs: clock.monotonicMs() - beganMs };
      } catch (error) {
        await this.#letGo(members);
        throw error;
      }
    }
  }

  /**
   * What needs not be done while requests wait: little is left to be flushed of files, and their copies
   * are objects before anything of them is written, so that they can be deleted whatever happens.
   */
  async #prepare(one: Opened): Promise<Member> {
    const { host, hosts, random, records } = this.#deps;
    const { as, object } = one;
    if (as !== undefined) await object.settle();
    const { backing } = object;
    const owner = backing.where === 'here' ? host : backing.owner;
    if (as !== undefined) {
      await records.delete(as);
      await records.create(as, 'file', owner);
    }
    const token = Buffer.from(random.bytes(16)).toString('hex');
    if (owner === host) return { ...one, token };
    const found = await hosts.find(owner);
    if (!found) throw new StorageError('unavailable', `host ${owner}, which owns it, is gone`);
    return { ...one, token, link: this.#links.to(found) };
  }

  /** All are held when this resolves. */
  async #hold(members: readonly Member[], name: string): Promise<void> {
    const held = members.map(async (member) => {
      const { token, as } = member;
      const { held: kind } = await this.#ask(member, { do: 'hold', token, name });
      // One that has grown into a volume just now.
      if ((kind === 'file') !== (as !== undefined))
        throw new StorageError('failed', 'a file has become a vDisk: try again');
    });
    if ((await within(this.#deps.clock, holdMsMax, Promise.all(held))) === 'done') return;
    throw new StorageError('failed', 'requests that are under way take too long: try again');
  }

  async #mark(members: readonly Member[], name: string, createdNs: bigint): Promise<Content[]> {
    const marked = members.map(async (member) => {
      const { token, as } = member;
      const mark = { do: 'mark', token, name, createdNs: String(createdNs) } as const;
      const { content } = await this.#ask(member, { ...mark, ...(as !== undefined && { as }) });
      if (!content) throw new StorageError('failed', 'the owner gave no answer');
      return content;
    });
    // Each has ended, so that nothing is marked once this has failed.
    for (const result of await Promise.allSettled(marked))
      if (result.status === 'rejected') throw result.reason;
    return Promise.all(marked);
  }

  /** Who is not reached lets go by itself. */
  async #letGo(members: readonly Member[]): Promise<void> {
    const told = members.map((member) => this.#ask(member, { do: 'letGo', token: member.token }));
    await within(this.#deps.clock, holdMsMax, Promise.allSettled(told));
  }

  async #settle(member: Member, name: string, ns: bigint): Promise<void> {
    const { id, as } = member;
    const { isKept } = await (as === undefined
      ? this.#deps.care.ask(id, { do: 'settle', name, createdNs: String(ns) })
      : this.#ask(member, { do: 'copied', as }));
    if (!isKept) throw new StorageError('failed', `the owner of object ${id} could not keep it`);
  }

  /** Once: a lost answer is a failure. */
  async #ask({ id, object, link }: Member, request: HoldRequest): Promise<CareAnswer> {
    if (!link) return this.#deps.held.serve(id, request, () => object);
    const asked = { kind: peerKind.care, payload: encodeCare(request) };
    return decodeCareAnswer((await link.ask(id, asked)).payload);
  }
}

function isMoving(error: unknown): boolean {
  if (!isStorageError(error)) return false;
  return ['not_owner', 'busy', 'unavailable', 'unknown_outcome', 'fenced'].includes(error.code);
}
