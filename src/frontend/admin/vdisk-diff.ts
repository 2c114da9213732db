/** What differs between two snapshots of a vDisk, or between one and the vDisk as it is now. */

import { closing } from '../../core/closing.ts';
import { StorageError } from '../../core/errors.ts';
import type { ObjectId } from '../../core/units.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Attributes } from '../../ports/file-system.ts';
import type { Random } from '../../ports/random.ts';
import type { CareAnswer, CareRequest } from '../../ports/volume-care.ts';
import type { SnapshotRecord, SnapshotRecords } from '../../registry/snapshot-records.ts';
import { checkSnapshotName, isOfMoment, nameOfMoment } from '../../registry/snapshot-records.ts';
import type { Difference } from '../../volume/map-diff.ts';
import { compareMaps } from '../../volume/map-diff.ts';
import type { SnapshotView } from '../../volume/snapshot-view.ts';
import type { VdiskChanges } from './vdisk-changes.ts';

/** Who died in the moment before he held it has left it behind. */
const forgottenNs = 24n * 3600n * 1_000_000_000n;

export interface VdiskDiffDeps {
  readonly changes: Pick<VdiskChanges, 'find'>;
  readonly objectOf: (disk: Attributes) => Promise<ObjectId>;
  readonly snapshots: SnapshotRecords;
  readonly view: (id: ObjectId, snapshot: SnapshotRecord) => Promise<SnapshotView>;
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> };
  readonly collect: (id: ObjectId) => void;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly random: Random;
}

export interface DiffState {
  /** Undefined: as it is now. */
  readonly name?: string;
  /** Nanoseconds since 1970. */
  readonly createdNs: string;
  readonly sizeBytes: number;
}

/** The first and the last line come always, and between them what differs and how far it is. */
export type DiffLine =
  | { readonly volume: ObjectId; readonly from: DiffState; readonly to: DiffState }
  | Difference
  | { readonly doneBytes: number }
  | { readonly isDone: true };

export class VdiskDiff {
  readonly #deps: VdiskDiffDeps;

  constructor(deps: VdiskDiffDeps) {
    this.#deps = deps;
  }

  /** `to` undefined: as it is now. `not_found`, `invalid`. */
  async *lines(
    path: string,
    from: string,
    to: string | undefined,
  ): AsyncGenerator<readonly DiffLine[]> {
    const { changes, objectOf, snapshots, view } = this.#deps;
    const named = async (name: string) => {
      checkSnapshotName(name);
      const found = await snapshots.find(id, name);
      if (!found) throw new StorageError('not_found', `${path} has no snapshot ${name}`);
      return found;
    };
    const id = await objectOf(await changes.find(path));
    const earlier = await named(from);
    await using later =
      to === undefined ? await this.#moment(id) : { record: await named(to), ...keptAnyway };
    await using before = closing(await view(id, earlier));
    await using after = closing(await view(id, later.record));
    try {
      yield* this.#compare(id, [earlier, before.value], [later.record, after.value]);
    } catch (error) {
      if (!later.lost.aborted) throw error;
      const why = 'the registry was away for too long, and what was compared is gone: ask again';
      throw new StorageError('unavailable', why, { cause: error });
    }
  }

  async *#compare(
    volume: ObjectId,
    [earlier, before]: readonly [SnapshotRecord, SnapshotView],
    [later, after]: readonly [SnapshotRecord, SnapshotView],
  ): AsyncGenerator<readonly DiffLine[]> {
    const { checksum, clock } = this.#deps;
    yield [{ volume, from: stateOf(earlier, before), to: stateOf(later, after) }];
    const yieldTurn = () => clock.sleep(0);
    for await (const compared of compareMaps({ checksum, yieldTurn }, before, after))
      yield [...compared.differences, { doneBytes: compared.doneBytes }];
    yield [{ isDone: true }];
  }

  /** A snapshot for this alone, which goes when it is disposed of or this process dies. */
  async #moment(id: ObjectId): Promise<Kept> {
    const { snapshots, care, collect, clock, random } = this.#deps;
    await this.#forget(id);
    const name = nameOfMoment(Buffer.from(random.bytes(16)).toString('hex'));
    await care.ask(id, { do: 'snapshot', name, createdNs: String(clock.wallNs()) });
    const { record, lease } = await snapshots.hold(id, name);
    return {
      record,
      lost: lease.signal,
      async [Symbol.asyncDispose]() {
        await lease.release();
        collect(id);
      },
    };
  }

  async #forget(id: ObjectId): Promise<void> {
    const { snapshots, clock } = this.#deps;
    for await (const { name, createdNs } of snapshots.list(id))
      if (isOfMoment(name) && createdNs < clock.wallNs() - forgottenNs)
        await snapshots.delete(id, name);
  }
}

/** A snapshot that stays until it is disposed of, or until `lost` fires. */
interface Kept extends AsyncDisposable {
  readonly record: SnapshotRecord;
  readonly lost: AbortSignal;
}

const keptAnyway = { lost: new AbortController().signal, async [Symbol.asyncDispose]() {} };

function stateOf({ name, createdNs }: SnapshotRecord, { sizeBytes }: SnapshotView): DiffState {
  const state = { createdNs: String(createdNs), sizeBytes };
  return isOfMoment(name) ? state : { name, ...state };
}
