/**
 * The owner's part in keeping several objects as they are at one moment. All of them are held, which
 * means that no request passes; once the last one is, each is marked, and goes on from there. Nothing
 * is written between the first mark and the last, as each object is held until its own.
 *
 *   hold     requests wait, those under way have ended
 *   mark     the object's state is kept, requests pass again. What is left to do (a volume is destaged,
 *            a file copied) goes on behind them
 *   let go   without a mark: told so, or `holdMsMax` later by itself. A mark that comes then is refused
 */

import { describeError, StorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { within } from '../../core/within.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { Tenure } from '../../ports/tenure.ts';
import type { CareAnswer, HoldRequest } from '../../ports/volume-care.ts';
import type { ObjectRecords } from '../../registry/object-records.ts';
import type { SnapshotRecords } from '../../registry/snapshot-records.ts';
import { makeTenure } from '../ownership.ts';
import type { Here } from '../backing.ts';
import type { RoutedObject } from '../routed-object.ts';

/** Somebody else's failure makes the front ends wait no longer than this. */
export const holdMsMax = 2000;

/** Keeps what a volume holds at the moment of the call. */
export interface VolumeMarker {
  mark(id: ObjectId, name: string, createdNs: bigint): void;
  /** Why its writers wait, if they do. */
  waiting(id: ObjectId): string | undefined;
}

/** Content that stays until it is dropped. */
export interface KeptContent {
  /** Makes it that of a new file. */
  readonly copy: (to: Tenure) => Promise<void>;
  readonly drop: () => void;
}

/** Keeps what the backend has of a file. */
export interface FileKeeper {
  keep(id: ObjectId): Promise<KeptContent>;
}

export interface HeldObjectsDeps {
  readonly host: HostId;
  readonly records: ObjectRecords;
  readonly snapshots: SnapshotRecords;
  readonly volumes: VolumeMarker;
  readonly files: FileKeeper;
  readonly clock: Clock;
  readonly log: Log;
}

interface Hold {
  /** Once no request is under way. */
  backing: Here | undefined;
  isOver: boolean;
  readonly end: () => void;
}

type Mark = Extract<HoldRequest, { readonly do: 'mark' }>;

export class HeldObjects {
  readonly #deps: HeldObjectsDeps;
  readonly #holds = new Map<string, Hold>();
  /** Copies of files that are under way, by their own ids. */
  readonly #copies = new Map<ObjectId, Promise<void>>();

  constructor(deps: HeldObjectsDeps) {
    this.#deps = deps;
  }

  /** `opened`: the object where it is this host's; `not_owner`. */
  async serve(
    id: ObjectId,
    request: HoldRequest,
    opened: () => Eventually<RoutedObject>,
  ): Promise<CareAnswer> {
    switch (request.do) {
      case 'hold':
        return { held: await this.#hold(await opened(), request.token, request.name) };
      case 'mark':
        return this.#mark(id, request);
      case 'letGo':
        this.#holds.get(request.token)?.end();
        return {};
      case 'copied':
        return { isKept: await this.#copied(request.as as ObjectId) };
    }
  }

  /** Resolves with its kind when it is held. `exists`, `busy`, `not_owner`, `failed`. */
  async #hold(object: RoutedObject, token: string, name: string): Promise<'volume' | 'file'> {
    const { volumes, snapshots, clock } = this.#deps;
    const why = volumes.waiting(object.id);
    if (why !== undefined) throw new StorageError('failed', `writers of ${object.id} wait: ${why}`);
    const held = Promise.withResolvers<Here>();
    const over = Promise.withResolvers<void>();
    const end = () => {
      hold.isOver = true;
      over.resolve();
    };
    const hold: Hold = { backing: undefined, isOver: false, end };
    this.#holds.set(token, hold);
    object
      .change(async (backing) => {
        if (backing.where === 'there')
          throw new StorageError('not_owner', `object ${object.id} is not served here any more`);
        hold.backing = backing;
        held.resolve(backing);
        await within(clock, holdMsMax, over.promise);
        hold.isOver = true;
        return backing;
      })
      .catch(held.reject)
      .finally(() => this.#holds.delete(token));
    // From now on nobody else begins one.
    const standing = snapshots.find(object.id, name);
    standing.catch(() => {});
    const { kind } = await held.promise;
    if (!(await standing)) return kind;
    end();
    throw new StorageError('exists', `snapshot ${name} exists already`);
  }

  async #mark(id: ObjectId, { token, name, createdNs, as }: Mark): Promise<CareAnswer> {
    const hold = this.#holds.get(token);
    const backing = hold?.backing;
    if (!hold || !backing || hold.isOver) throw tooLate();
    try {
      const { object, kind, lease } = backing;
      lease.assertFresh();
      if (kind === 'volume') this.#deps.volumes.mark(id, name, BigInt(createdNs));
      else await this.#markFile(hold, backing, as as ObjectId);
      return { content: { sizeBytes: object.size(), allocatedBytes: object.allocatedBytes() } };
    } finally {
      hold.end();
    }
  }

  async #markFile(hold: Hold, { object, lease }: Here, as: ObjectId): Promise<void> {
    await object.flush();
    const kept = await this.#deps.files.keep(object.id);
    try {
      // What was found is of the moment only if nobody can have taken the file since.
      lease.assertFresh();
      if (hold.isOver) throw tooLate();
    } catch (error) {
      kept.drop();
      throw error;
    }
    const copied = this.#copy(kept, as, lease).finally(() => {
      kept.drop();
      this.#copies.delete(as);
    });
    this.#copies.set(as, copied);
    copied.catch((error: unknown) => {
      const facts = { object: as, error: describeError(error) };
      this.#deps.log.warn(facts, 'file could not be copied for a snapshot');
    });
  }

  /** `not_found` where it has been deleted meanwhile. */
  async #copy({ copy }: KeptContent, as: ObjectId, { guard }: Here['lease']): Promise<void> {
    const { records, host } = this.#deps;
    const tenure = makeTenure(as, await records.claim(as, host, guard));
    try {
      await copy(tenure);
    } finally {
      tenure.end(new StorageError('closed', 'the file is copied'));
    }
  }

  async #copied(as: ObjectId): Promise<boolean> {
    await this.#copies.get(as)?.catch(() => {});
    return (await this.#deps.records.heads('file').loadHead(as)) !== undefined;
  }
}

const tooLate = () => new StorageError('failed', 'the object was not held any more');
