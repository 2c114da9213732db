/** A host of a cluster in memory, with a file system and what administrators have. */

import type { Ino, ObjectId } from '../../src/core/units.ts';
import { VdiskChanges } from '../../src/frontend/admin/vdisk-changes.ts';
import { VdiskSnapshots } from '../../src/frontend/admin/vdisk-snapshots.ts';
import { VmSnapshots } from '../../src/frontend/admin/vm-snapshots.ts';
import { findPath } from '../../src/frontend/admin/vdisks.ts';
import { WharfFileSystem } from '../../src/frontend/filesystem.ts';
import { KeptFiles } from '../../src/frontend/kept-files.ts';
import { Lineage } from '../../src/frontend/lineage.ts';
import { SnapshotMaker } from '../../src/frontend/snapshot-maker.ts';
import { SnapshotTree } from '../../src/frontend/snapshot-tree.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { systemRandom } from '../../src/platform/random.ts';
import type { Attributes } from '../../src/ports/file-system.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { Namespace } from '../../src/registry/namespace.ts';
import type { ClusterWorld, WorldHost } from './cluster-world.ts';

const salt = '5a'.repeat(16);
const caller = { uid: 0, gid: 0 };

/** A host with a front end. */
export class ClusterFront {
  readonly host: WorldHost;
  readonly fileSystem: WharfFileSystem;
  readonly changes: VdiskChanges;
  readonly snapshots: VdiskSnapshots;
  readonly maker: SnapshotMaker;
  readonly vms: VmSnapshots;

  private constructor(world: ClusterWorld, host: WorldHost, fileSystem: WharfFileSystem) {
    this.host = host;
    this.fileSystem = fileSystem;
    const { care, volumes, snapshots, registry, router, id } = host;
    const { clock, log } = world;
    const collect = (object: ObjectId) => void care.ask(object, { do: 'collect' }).catch(() => {});
    const tree = new SnapshotTree(new Namespace(registry, salt), id);
    this.maker = new SnapshotMaker({ tree, snapshots, objects: router, care, collect, clock, log });
    this.changes = new VdiskChanges({ fileSystem, caller, tellKernel: async () => {} });
    const shared = {
      ...{ changes: this.changes, care, snapshots, clock, tree, maker: this.maker, collect },
      isRead: (object: ObjectId, name?: string) => fileSystem.isRead(object, name),
      objectOf: ({ ino }: Attributes) => this.objectOf(ino),
      random: systemRandom(),
      writeMoment: (ns: bigint) => `t${ns}`,
    };
    this.snapshots = new VdiskSnapshots({
      ...shared,
      checksum: tableChecksum(),
      detach: (clone) => fileSystem.detach(clone),
      prepare: (clone, head) => volumes.prepare(clone, head),
      host: id,
    });
    this.vms = new VmSnapshots({ ...shared, fileSystem, moments: host.moments });
  }

  static async open(world: ClusterWorld, name: string): Promise<ClusterFront> {
    const host = await world.host(name);
    const { registry, router, snapshots, care, volumes, id } = host;
    const { clock, log } = world;
    const kept = new KeptFiles({
      ...{ objects: router, clock },
      view: async (object, of) => volumes.view(object, await snapshots.get(object, of)),
    });
    const collect = (object: ObjectId) => void care.ask(object, { do: 'collect' }).catch(() => {});
    const fileSystem = await WharfFileSystem.open(
      {
        ...{ namespace: new Namespace(registry, salt), objects: router, clock, log, host: id },
        kept,
        lineage: new Lineage({ snapshots, care, collect }),
        random: systemRandom(),
        space: async () => ({ totalBytes: 1, freeBytes: 1, inodesTotal: 1, inodesFree: 1 }),
      },
      { volumeNames: ['*.raw'], attributeDelayMs: 1000, keptMs: 0 },
      caller,
    );
    for (const { id: object, sizeBytes } of await host.recover())
      await new Namespace(registry, salt).reconcile(object, sizeBytes);
    const front = new ClusterFront(world, host, fileSystem);
    await front.maker.resume();
    return front;
  }

  /** The process dies. */
  async kill(): Promise<void> {
    await this.host.kill();
    void this.fileSystem.close().catch(() => {});
  }

  async objectOf(ino: Ino): Promise<ObjectId> {
    await this.fileSystem.open(ino);
    const object = await this.fileSystem.objectOf(ino);
    await this.fileSystem.release(ino);
    return object as ObjectId;
  }

  async inoOf(path: string): Promise<Ino> {
    return (await findPath(this.fileSystem, path)).ino;
  }

  async idOf(path: string): Promise<ObjectId> {
    return this.objectOf(await this.inoOf(path));
  }

  /** Makes the file where it is not there. Open, write, close. */
  async write(path: string, offset: number, data: Uint8Array): Promise<void> {
    const ino = await this.inoOf(path).catch(async () => {
      const made = { type: 'file', mode: 0o600 } as const;
      return (await this.fileSystem.make(rootIno, path.slice(1), made, caller)).ino;
    });
    await this.fileSystem.open(ino);
    try {
      await this.fileSystem.write(ino, offset, data);
    } finally {
      await this.fileSystem.release(ino);
    }
  }

  async sync(path: string): Promise<void> {
    const ino = await this.inoOf(path);
    await this.fileSystem.open(ino);
    await this.fileSystem.sync(ino);
    await this.fileSystem.release(ino);
  }

  async remove(path: string): Promise<void> {
    await this.changes.remove(path);
  }
}
