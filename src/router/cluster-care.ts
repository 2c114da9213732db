/**
 * What an administrator does to volumes, brought to the host that serves each one. As with I/O, a
 * request whose answer is lost is made again with whoever serves the volume then.
 */

import { StorageError } from '../core/errors.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import { decodeCareAnswer, decodeCareRequest, encodeCare } from '../format/care-message.ts';
import { decodeRequestHead, encodeAnswerHead, peerKind } from '../format/peer-message.ts';
import type { PeerMessage, Peers } from '../ports/peers.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { CareAnswer, CareRequest, HoldRequest, VolumeRequest } from '../ports/volume-care.ts';
import type { HostRecords } from '../registry/host-records.ts';
import type { ObjectRecords } from '../registry/object-records.ts';
import type { SnapshotRecord, SnapshotRecords } from '../registry/snapshot-records.ts';
import type { Membership } from './members/membership.ts';
import type { ObjectRouter } from './object-router.ts';
import type { HeldObjects } from './moments/held-objects.ts';
import { makeTenure } from './ownership.ts';
import { PeerLinks } from './peers/peer-link.ts';
import type { Backing, Here } from './backing.ts';
import type { RoutedObject } from './routed-object.ts';

/** The volumes of this host. */
export interface VolumeKeeper {
  act(id: ObjectId, request: VolumeRequest): Promise<CareAnswer>;
  /** Uses up a tenure of a volume that is closed and on the backend as a whole. */
  rollBack(
    tenure: Tenure,
    to: SnapshotRecord | 'nothing',
    before: Pick<SnapshotRecord, 'name' | 'createdNs'> | undefined,
  ): Promise<void>;
}

export interface ClusterCareDeps {
  readonly host: HostId;
  readonly membership: Pick<Membership, 'session'>;
  readonly router: Pick<ObjectRouter, 'open' | 'release' | 'driven'>;
  readonly peers: Peers;
  readonly hosts: HostRecords;
  readonly records: ObjectRecords;
  readonly snapshots: SnapshotRecords;
  readonly volumes: VolumeKeeper;
  readonly held: Pick<HeldObjects, 'serve'>;
}

type RollBack = Extract<CareRequest, { readonly do: 'rollBack' }>;

export class ClusterCare {
  readonly #deps: ClusterCareDeps;
  readonly #links: PeerLinks;

  constructor(deps: ClusterCareDeps) {
    this.#deps = deps;
    this.#links = new PeerLinks(deps.peers, () => deps.membership.session);
  }

  /** An owner that is away is waited for. `not_found`, `invalid` (a file), what the request says. */
  async ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> {
    const { router } = this.#deps;
    const object = await router.open(id);
    try {
      return await object.ask(
        (backing) =>
          backing.where === 'here'
            ? this.#act(object, backing, request)
            : this.#forward(id, backing.owner, request),
        'this host',
      );
    } finally {
      router.release(id);
    }
  }

  /** A request of another host. */
  async handle(message: PeerMessage): Promise<PeerMessage> {
    const { id } = decodeRequestHead(message.head);
    const request = decodeCareRequest(message.payload);
    const answer = isOfMoment(request)
      ? await this.#deps.held.serve(id, request, async () => this.#deps.router.driven(id))
      : await this.#serve(await this.#deps.router.driven(id), request);
    const head = { sizeBytes: 0, allocatedBytes: 0, result: 0, epoch: 0, isVolume: true };
    return { kind: message.kind, head: encodeAnswerHead(head), payload: encodeCare(answer) };
  }

  #serve(object: RoutedObject, request: CareRequest): Promise<CareAnswer> {
    return object.ask((backing) => {
      if (backing.where === 'there')
        throw new StorageError('not_owner', `object ${object.id} is not served here any more`);
      return this.#act(object, backing, request);
    }, 'another host');
  }

  async #forward(id: ObjectId, owner: HostId, request: CareRequest): Promise<CareAnswer> {
    const host = await this.#deps.hosts.find(owner);
    if (!host) throw new StorageError('unavailable', `host ${owner}, which owns it, is gone`);
    const asked = { kind: peerKind.care, payload: encodeCare(request) };
    return decodeCareAnswer((await this.#links.to(host).ask(id, asked)).payload);
  }

  async #act(object: RoutedObject, backing: Here, request: CareRequest): Promise<CareAnswer> {
    const { volumes, records } = this.#deps;
    const { id } = object;
    if (backing.kind === 'file') throw new StorageError('invalid', 'it is no volume');
    if (request.do === 'rollBack') return this.#rollBack(object, request);
    if (request.do === 'empty') return this.#empty(object);
    const answer = await volumes.act(id, request);
    if (request.do === 'freeze') await records.adjust(id, { isFrozen: true });
    return answer;
  }

  /**
   * Requests wait while the volume is brought to the backend, closed, made what the snapshot is, and
   * opened anew: whoever has it open goes on with it.
   */
  async #rollBack(object: RoutedObject, request: RollBack): Promise<CareAnswer> {
    const { snapshots } = this.#deps;
    const { id } = object;
    const { before: name } = request;
    const before = name === undefined ? undefined : { name, createdNs: BigInt(request.createdNs) };
    const standing = before && (await snapshots.find(id, before.name));
    // Both are committed at once: it was done, and the answer lost.
    if (standing && standing.createdNs === before.createdNs) return {};
    if (standing) throw new StorageError('exists', `snapshot ${before.name} exists already`);
    await this.#become(object, await snapshots.get(id, request.name), before);
    return {};
  }

  /** Made again where it has been done, it deletes what a crash, or a snapshot since gone, has left. */
  async #empty(object: RoutedObject): Promise<CareAnswer> {
    if (object.size() > 0) await this.#become(object, 'nothing', undefined);
    return this.#deps.volumes.act(object.id, { do: 'collect' });
  }

  async #become(
    object: RoutedObject,
    to: SnapshotRecord | 'nothing',
    before: Pick<SnapshotRecord, 'name' | 'createdNs'> | undefined,
  ): Promise<void> {
    await object.settle();
    let failure: { readonly error: unknown } | undefined;
    await object.change(async (backing, resolve) => {
      try {
        await this.#replace(backing, to, before);
      } catch (error) {
        failure = { error };
      }
      return resolve(backing);
    });
    if (failure) throw failure.error;
  }

  async #replace(
    backing: Backing,
    to: SnapshotRecord | 'nothing',
    before: Pick<SnapshotRecord, 'name' | 'createdNs'> | undefined,
  ): Promise<void> {
    const { host, records, volumes } = this.#deps;
    const { id } = backing.object;
    if (backing.where === 'there')
      throw new StorageError('not_owner', `object ${id} is not served here any more`);
    await backing.object.sync();
    await backing.object.close();
    backing.tenure.end(new StorageError('fenced', 'the volume is replaced'));
    const tenure = makeTenure(id, await records.claim(id, host, backing.lease.guard));
    await volumes.rollBack(tenure, to, before);
    tenure.end(new StorageError('fenced', 'the volume has been replaced'));
  }
}

function isOfMoment(request: CareRequest | HoldRequest): request is HoldRequest {
  return ['hold', 'mark', 'letGo', 'copied'].includes(request.do);
}
