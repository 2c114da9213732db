/** A vPool of some hosts in one process, with front ends, that can be damaged and looked through. */

import { withFaults, type Faults } from '../../src/backend/with-faults.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { KiB } from '../../src/core/units.ts';
import type { ScrubFindings } from '../../src/daemon/scrub.ts';
import { Scrub } from '../../src/daemon/scrub.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { Finding } from '../../src/ports/scrub.ts';
import { ObjectRecords } from '../../src/registry/object-records.ts';
import { quietLog } from './quiet-log.ts';
import { ClusterFront } from './cluster-front.ts';
import { ClusterWorld } from './cluster-world.ts';

const fast = 1e12;
export const crumbs = {
  ...{ segmentBytes: 16 * KiB, cutBytes: 16 * KiB, tailSegmentsMax: 3, deltaBlocksMax: 16 },
};

export class ScrubWorld implements AsyncDisposable {
  readonly world = new ClusterWorld({ leaseMs: 10_000, volumes: crumbs });
  readonly hosts: ClusterFront[] = [];

  static async open(...names: readonly string[]): Promise<ScrubWorld> {
    const world = new ScrubWorld();
    for (const name of names.length > 0 ? names : ['a'])
      world.hosts.push(await ClusterFront.open(world.world, name));
    return world;
  }

  /** The process of a host dies, and another one begins where it was. */
  async restart(index: number): Promise<void> {
    const front = this.hosts[index] as ClusterFront;
    await front.kill();
    this.hosts[index] = await ClusterFront.open(this.world, front.host.id);
  }

  get host(): ClusterFront {
    return this.hosts[0] as ClusterFront;
  }

  bucketOf(id: ObjectId): Map<string, Uint8Array> {
    return this.world.backend.blobs(`volume-${id}`);
  }

  get pieces(): Map<string, Uint8Array> {
    return this.world.backend.blobs('files');
  }

  scrubber(
    host = this.host,
    faults?: Faults,
    pauseMs = 5,
    { clock, keptMs }: { readonly clock: Clock; readonly keptMs: number } = {
      clock: this.world.clock,
      keptMs: 0,
    },
  ): Scrub {
    const { registry, snapshots, care, router, id } = host.host;
    const { backend } = this.world;
    return new Scrub({
      ...{ registry, snapshots, care, clock, host: id, log: quietLog() },
      ...{ records: new ObjectRecords(registry), checksum: tableChecksum() },
      backend: faults ? withFaults(backend, faults) : backend,
      ...{ volumeBuckets: 'volume-', fileBucket: 'files', pauseMs, ownerMs: 10_000, keptMs },
      deleteObject: (object) => router.delete(object),
    });
  }

  /** To its end. */
  async scrub(
    how: 'look' | 'repair' = 'look',
    scrub = this.scrubber(),
    bytesPerSecond = fast,
  ): Promise<ScrubFindings> {
    await scrub.start({ isRepair: how === 'repair', bytesPerSecond });
    await this.ended(scrub);
    return scrub.report(0);
  }

  async ended(scrub: Scrub): Promise<void> {
    while (scrub.status().state === 'running') await this.world.clock.sleep(1);
  }

  /** What is found, each as `kind: what`; it fails where the scrub does. */
  async found(
    how: 'look' | 'repair' = 'look',
    scrub = this.scrubber(),
  ): Promise<readonly Finding[]> {
    const { state, why, findings } = await this.scrub(how, scrub);
    if (state !== 'done') throw new Error(`the scrub has ${state}: ${why}`);
    return findings;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { fileSystem, host } of this.hosts) {
      await fileSystem.close();
      await host.stop();
    }
    await this.world[Symbol.asyncDispose]();
  }
}
