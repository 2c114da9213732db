/**
 * The Object Router: from an object's id to whoever serves it. On one host that is always this
 * host: it claims the object in the registry, which begins a tenure with an epoch of its own, and
 * drives it. Objects are shared by all who have them open, and stay open for a while after.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { within } from '../core/within.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import type { Clock } from '../ports/clock.ts';
import type { DataObject } from '../ports/data-object.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { ObjectHandle, ObjectKind, Objects } from '../ports/objects.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Claim, ObjectRecords } from '../registry/object-records.ts';
import { RoutedObject } from './routed-object.ts';

const copyBytes = limits.requestBytesMax;
/** How long the last flush of an object may take when the router is closed. */
const closeMsMax = 10_000;

export interface RouterDeps {
  readonly host: HostId;
  readonly records: ObjectRecords;
  readonly volumes: ObjectDriver;
  readonly files: ObjectDriver;
  readonly clock: Clock;
  readonly log: Log;
}

export interface RouterSettings {
  /** Objects that nobody uses and that stay open all the same. */
  readonly idleObjectsMax: number;
}

interface Served {
  readonly object: RoutedObject;
  readonly tenure: Tenure & { readonly end: (reason: StorageError) => void };
  uses: number;
}

export class ObjectRouter implements Objects {
  readonly #deps: RouterDeps;
  readonly #settings: RouterSettings;
  readonly #served = new Map<ObjectId, Served>();
  /** Whatever opens, closes or deletes an object waits for what was asked of it before. */
  readonly #last = new Map<ObjectId, Promise<unknown>>();
  /** Objects that nobody uses, the longest unused first. */
  readonly #idle = new Set<ObjectId>();

  constructor(deps: RouterDeps, settings: RouterSettings) {
    this.#deps = deps;
    this.#settings = settings;
  }

  async create(id: ObjectId, kind: ObjectKind): Promise<void> {
    await this.#inTurn(id, () => this.#deps.records.create(id, kind, this.#deps.host));
  }

  open(id: ObjectId): Promise<ObjectHandle> {
    return this.#inTurn(id, async () => {
      const served = this.#served.get(id) ?? (await this.#serve(id));
      served.uses += 1;
      this.#idle.delete(id);
      return served.object;
    });
  }

  release(id: ObjectId): void {
    const served = this.#served.get(id);
    if (!served) return;
    served.uses -= 1;
    if (served.uses > 0) return;
    this.#idle.add(id);
    if (this.#idle.size <= this.#settings.idleObjectsMax) return;
    const [longest] = this.#idle;
    if (longest !== undefined) void this.#closeIdle(longest);
  }

  opened(id: ObjectId): ObjectHandle | undefined {
    return this.#served.get(id)?.object;
  }

  delete(id: ObjectId): Promise<void> {
    return this.#inTurn(id, async () => {
      const served = this.#served.get(id);
      if (served && served.uses > 0) throw new StorageError('busy', `object ${id} is in use`);
      if (served) {
        this.#forget(id);
        await served.object.abandon();
        served.tenure.end(new StorageError('closed', 'the object is deleted'));
      }
      const record = await this.#deps.records.find(id);
      if (!record) return;
      // Data first: a crash between leaves an object that can be deleted again.
      await this.#deps.volumes.delete(id);
      await this.#deps.files.delete(id);
      await this.#deps.records.delete(id);
    });
  }

  /** Ids of the objects that are open here, with their kind and epoch. */
  *openObjects(): Iterable<{ id: ObjectId; kind: ObjectKind; epoch: number }> {
    for (const [id, { object, tenure }] of this.#served)
      yield { id, kind: object.kind(), epoch: tenure.epoch };
  }

  /** Opens the objects of which this host holds unfinished work; gives their sizes. */
  async recover(ids: readonly ObjectId[]): Promise<readonly { id: ObjectId; sizeBytes: number }[]> {
    const recovered: { id: ObjectId; sizeBytes: number }[] = [];
    for (const id of ids) {
      try {
        const object = await this.open(id);
        recovered.push({ id, sizeBytes: object.size() });
        this.release(id);
      } catch (error) {
        if (!isStorageError(error)) throw error;
        const { code, message } = error;
        if (code === 'not_found') await this.#deps.volumes.delete(id);
        else this.#deps.log.error({ object: id, code, error: message }, 'object is not recovered');
      }
    }
    return recovered;
  }

  /** Closes everything, flushed; what can't be flushed in time is let go, and told. */
  async close(): Promise<void> {
    const results = await Promise.allSettled(
      [...this.#served].map(([id, served]) => this.#closeServed(id, served)),
    );
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #closeServed(id: ObjectId, { object, tenure }: Served): Promise<void> {
    const { clock, log } = this.#deps;
    if ((await within(clock, closeMsMax, object.close())) === 'late') {
      log.error({ object: id, kind: object.kind() }, 'changes since the last flush are lost');
      await object.abandon();
    }
    this.#forget(id);
    tenure.end(new StorageError('closed', 'the object is closed'));
  }

  async #serve(id: ObjectId): Promise<Served> {
    const claim = await this.#deps.records.claim(id, this.#deps.host);
    const tenure = makeTenure(id, claim);
    const inner = await this.#driver(claim.kind).open(tenure);
    const object = new RoutedObject(inner, claim.kind, (file) => this.#promote(file, tenure));
    const served = { object, tenure, uses: 0 };
    this.#served.set(id, served);
    return served;
  }

  /** A file that outgrew its driver becomes a volume under the same id and tenure. */
  async #promote(file: DataObject, tenure: Tenure): Promise<DataObject> {
    const { volumes, records, log } = this.#deps;
    await file.flush();
    // Whatever an earlier attempt left.
    await volumes.delete(tenure.objectId);
    await volumes.create(tenure);
    const volume = await volumes.open(tenure);
    try {
      await copy(file, volume);
      await volume.sync();
      await records.promote(tenure.objectId, tenure.epoch);
    } catch (error) {
      await volume.abandon();
      throw error;
    }
    // It is a volume now, whatever becomes of the file's pieces: they go with the object at last.
    await file.abandon();
    const facts = { object: tenure.objectId, sizeBytes: volume.size() };
    log.info(facts, 'file has become a volume');
    this.#deps.files.delete(tenure.objectId).catch((error: unknown) => {
      log.warn({ ...facts, error: String(error) }, 'pieces of the file are left');
    });
    return volume;
  }

  async #closeIdle(id: ObjectId): Promise<void> {
    await this.#inTurn(id, async () => {
      const served = this.#served.get(id);
      if (!served || served.uses > 0) return;
      await served.object.close();
      this.#forget(id);
      served.tenure.end(new StorageError('closed', 'the object is closed'));
    }).catch((error: unknown) => {
      this.#deps.log.warn({ object: id, error: String(error) }, 'idle object could not be closed');
    });
  }

  #forget(id: ObjectId): void {
    this.#served.delete(id);
    this.#idle.delete(id);
  }

  #driver(kind: ObjectKind): ObjectDriver {
    return kind === 'volume' ? this.#deps.volumes : this.#deps.files;
  }

  #inTurn<T>(id: ObjectId, action: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(id) ?? Promise.resolve()).then(action, action);
    const settled = turn
      .catch(() => {})
      .then(() => {
        if (this.#last.get(id) === settled) this.#last.delete(id);
      });
    this.#last.set(id, settled);
    return turn;
  }
}

function makeTenure(id: ObjectId, claim: Claim) {
  const ending = new AbortController();
  return {
    objectId: id,
    epoch: claim.epoch,
    resumed: claim.resumed,
    signal: ending.signal,
    assertLive: () => ending.signal.throwIfAborted(),
    end: (reason: StorageError) => ending.abort(reason),
  };
}

async function copy(from: DataObject, to: DataObject): Promise<void> {
  const buffer = new Uint8Array(copyBytes);
  const size = from.size();
  for (let offset = 0; offset < size; offset += copyBytes) {
    const bytes = await from.read(offset, buffer);
    await to.write(offset, buffer.subarray(0, bytes));
  }
  await to.resize(size);
}
