/**
 * File systems of several hosts over one registry in memory, and volumes of which a snapshot is
 * whatever the volume holds at that moment. Nothing is forwarded.
 */

import { StorageError } from '../../src/core/errors.ts';
import type { HostId, ObjectId } from '../../src/core/units.ts';
import { hostId } from '../../src/core/units.ts';
import { WharfFileSystem } from '../../src/frontend/filesystem.ts';
import type { View } from '../../src/frontend/kept-files.ts';
import { KeptFiles } from '../../src/frontend/kept-files.ts';
import { SnapshotMaker } from '../../src/frontend/snapshot-maker.ts';
import type { Member } from '../../src/frontend/snapshot-tree.ts';
import { SnapshotTree } from '../../src/frontend/snapshot-tree.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { SimulatedClock } from '../../src/platform/simulated-clock.ts';
import type { Ino } from '../../src/core/units.ts';
import { fileName } from '../../src/core/units.ts';
import type { CareAnswer, CareRequest } from '../../src/ports/volume-care.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { Namespace } from '../../src/registry/namespace.ts';
import { SnapshotRecords } from '../../src/registry/snapshot-records.ts';
import { lineageOf } from './lineage.ts';
import { memoryObjects } from './memory-objects.ts';
import { quietLog } from './quiet-log.ts';

const salt = '00'.repeat(16);
const owner = { uid: 0, gid: 0 };

export interface SnapshotHost {
  readonly fs: WharfFileSystem;
  readonly kept: KeptFiles;
  readonly tree: SnapshotTree;
  readonly maker: SnapshotMaker;
}

export class SnapshotWorld {
  readonly clock = new SimulatedClock();
  readonly registry = new MemoryRegistry(this.clock);
  readonly objects = memoryObjects();
  readonly snapshots = new SnapshotRecords(this.registry);
  /** What each snapshot holds, by `<id>@<name>`. */
  readonly content = new Map<string, Uint8Array>();
  /** Views that are open now, and that were ever opened. */
  readonly views = { open: 0, opened: 0 };
  readonly log = quietLog();
  #created = 0n;

  async host(name: string): Promise<SnapshotHost> {
    const { clock, registry, objects, snapshots, log } = this;
    const namespace = new Namespace(registry, salt);
    const view = (id: ObjectId, snapshot: string) => this.#view(id, snapshot);
    const kept = new KeptFiles({ objects, view, clock });
    const host: HostId = hostId(name);
    const fs = await WharfFileSystem.open(
      {
        ...{ namespace, objects, kept, clock, log, host, random: seededRandom(1) },
        lineage: lineageOf(registry),
        space: async () => ({ totalBytes: 1, freeBytes: 1, inodesTotal: 1, inodesFree: 1 }),
      },
      { volumeNames: ['*.raw'], attributeDelayMs: 1_000_000, keptMs: 0 },
      owner,
    );
    const tree = new SnapshotTree(namespace, host);
    const care = { ask: (id: ObjectId, request: CareRequest) => this.#care(id, request) };
    const maker = new SnapshotMaker({ tree, snapshots, objects, care, collect() {}, clock, log });
    return { fs, kept, tree, maker };
  }

  /** A vDisk that holds `text`. */
  async disk({ fs }: SnapshotHost, parent: Ino, name: string, text: string): Promise<Ino> {
    const { ino } = await fs.make(parent, name, { type: 'file', mode: 0o640 }, owner);
    await fs.write(ino, 0, Buffer.from(text));
    return ino;
  }

  /** The volume keeps what it holds now; gives how its folder shows that. */
  async keep({ fs }: SnapshotHost, ino: Ino, name: string, createdNs: bigint): Promise<Member[]> {
    const object = (await fs.objectOf(ino)) as ObjectId;
    const attributes = await fs.attributes(ino);
    const bytes = new Uint8Array(attributes.sizeBytes);
    await fs.read(ino, 0, bytes);
    this.content.set(`${object}@${name}`, bytes);
    const writes = this.snapshots.writes(object, {
      ...{ name, createdNs, usedBytes: bytes.length, head: new Uint8Array(1) },
      at: { epoch: 1, sequence: 1 },
    });
    await this.registry.transact({ compares: [], writes });
    return [{ name: fileName('disk.raw'), attributes, kept: { object, snapshot: name } }];
  }

  /** A snapshot of one disk, which its folder shows as `as`. */
  async snapshot(host: SnapshotHost, folder: Ino, ino: Ino, name: string, as = 'disk.raw') {
    this.#created += 1n;
    const createdNs = this.#created;
    const object = (await host.fs.objectOf(ino)) as ObjectId;
    const what = { createdNs, volumes: [object], files: [] };
    return host.maker.make(folder, name, what, async () => {
      const [member] = await this.keep(host, ino, name, createdNs);
      return [{ ...(member as Member), name: fileName(as) }];
    });
  }

  async delete({ tree }: SnapshotHost, object: ObjectId, name: string): Promise<boolean> {
    this.content.delete(`${object}@${name}`);
    return this.snapshots.delete(object, name, () => tree.removing(object, name));
  }

  async text({ fs }: SnapshotHost, ino: Ino): Promise<string> {
    const bytes = new Uint8Array(100);
    return Buffer.from(bytes.subarray(0, await fs.read(ino, 0, bytes))).toString();
  }

  async inoOf({ fs }: SnapshotHost, parent: Ino, ...path: string[]): Promise<Ino> {
    let found = parent;
    for (const name of path) found = (await fs.lookup(found, name)).ino;
    return found;
  }

  async #care(id: ObjectId, request: CareRequest): Promise<CareAnswer> {
    if (request.do !== 'settle') throw new StorageError('unsupported', request.do);
    const found = await this.snapshots.find(id, request.name);
    return { isKept: found?.createdNs === BigInt(request.createdNs) };
  }

  async #view(id: ObjectId, snapshot: string): Promise<View> {
    await this.snapshots.get(id, snapshot);
    this.views.open += 1;
    this.views.opened += 1;
    return {
      read: (offset, into) => {
        const bytes = this.content.get(`${id}@${snapshot}`);
        if (!bytes) throw new StorageError('not_found', 'a segment is gone');
        const found = bytes.subarray(offset, offset + into.length);
        into.set(found);
        return found.length;
      },
      seek: (offset, what) => (what === 'data' ? offset : undefined),
      close: async () => void (this.views.open -= 1),
    };
  }
}
