/**
 * What administrators do meanwhile: moves, snapshots, clones, compaction. In trouble an errand may
 * fail, which is counted; what it gave may never be wrong. A snapshot is the disk at a moment between
 * the order and the answer, and stays what it is.
 */

import { crc32 } from 'node:zlib';
import type { LoadDeps } from './disk-load.ts';
import type { DiskRecord } from './disk-record.ts';
import type { Host } from './host.ts';
import type { KindName, Step } from './plan.ts';

/** More than that, and the oldest goes. */
const snapshotsMax = 4;

interface Kept {
  readonly disk: number;
  readonly name: string;
  readonly crc: number;
}

export class Errands {
  readonly #records: readonly DiskRecord[];
  readonly #deps: LoadDeps;
  #kept: Kept[] = [];
  #lastNumber = 0;

  readonly #errands: Partial<Record<KindName, (step: Step, host: Host) => Promise<void>>> = {
    move: ({ disk, host: to, other }) =>
      this.#do(this.#deps.cluster.host(other), 'move', disk, { to }),
    compact: ({ disk }, host) => this.#do(host, 'compact', disk),
    snapshot: ({ disk }, host) => this.#snapshot(disk, host),
    clone: async ({ disk }, host) => {
      if (this.#kept.length === 0) await this.#snapshot(disk, host);
      await this.#clone(host);
    },
  };

  constructor(records: readonly DiskRecord[], deps: LoadDeps) {
    this.#records = records;
    this.#deps = deps;
  }

  /** Counts how it went. */
  async run(step: Step): Promise<void> {
    const { cluster, chronicle } = this.#deps;
    const { kind } = step;
    try {
      await this.#errands[kind]?.(step, cluster.host(step.host));
      chronicle.count(`${kind} done`);
    } catch (error) {
      chronicle.note(`${kind} failed: ${String(error)}`);
      chronicle.count(`${kind} failed`);
    }
  }

  /** All that are kept are what they were. */
  async check(host: Host): Promise<void> {
    for (const kept of this.#kept) await this.#compare(host, pathOf(kept), kept);
  }

  async #do(host: Host, what: string, disk: number, query: Record<string, string> = {}) {
    await host.ask('POST', `vdisk/${what}`, { path: `/disk${disk}.raw`, ...query });
  }

  async #snapshot(disk: number, host: Host): Promise<void> {
    if (this.#kept.length >= snapshotsMax) await this.#giveUpOldest(host);
    const record = this.#records[disk] as DiskRecord;
    const name = `snapshot${(this.#lastNumber += 1)}`;
    const sure = record.sure();
    await this.#do(host, 'snapshot/create', disk, { name });
    const { lastVersion } = record;
    const bytes = await host.call(pathOf({ disk, name }), { what: 'get' });
    const wrong = record.lookAt(bytes, sure, lastVersion);
    this.#deps.chronicle.findWrong(wrong, `in ${name} of it, read at ${host.name}`);
    this.#deps.chronicle.count('bytes verified', bytes.length);
    this.#kept.push({ disk, name, crc: crc32(bytes) });
  }

  async #giveUpOldest(host: Host): Promise<void> {
    const [oldest, ...rest] = this.#kept as [Kept, ...Kept[]];
    this.#kept = rest;
    await this.#do(host, 'snapshot/delete', oldest.disk, { name: oldest.name });
    this.#deps.chronicle.count('snapshots deleted');
  }

  /** Of the newest snapshot; deleted when it has been compared. */
  async #clone(host: Host): Promise<void> {
    const kept = this.#kept.at(-1) as Kept;
    const to = `/clone${(this.#lastNumber += 1)}.raw`;
    await this.#do(host, 'clone', kept.disk, { name: kept.name, to });
    await this.#compare(host, to.slice(1), kept);
    await host.ask('POST', 'vdisk/delete', { path: to });
  }

  async #compare(host: Host, path: string, { crc, disk, name }: Kept): Promise<void> {
    const bytes = await host.call(path, { what: 'get' });
    this.#deps.chronicle.count('bytes verified', bytes.length);
    if (crc32(bytes) !== crc)
      this.#deps.chronicle.find(`${path} is not what ${name} of disk ${disk} was, at ${host.name}`);
  }
}

const pathOf = ({ disk, name }: { disk: number; name: string }) =>
  `.snapshots/${name}/disk${disk}.raw`;
