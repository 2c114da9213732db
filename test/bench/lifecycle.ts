/**
 * What administrators do with disks all day, under load: the pause that a snapshot makes at the
 * front end, for a small and for a large disk; a hundred clones; the space that a disk under random
 * overwrites takes, and what winning it back costs.
 */

import { readdirSync, statSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { GiB, MiB, TiB } from '../../src/core/units.ts';
import type { CompactionReport } from '../../src/ports/volume-care.ts';
import type { Effort } from './effort.ts';
import { nowMs } from '../support/mount-user.ts';
import { diskName, Pair, stayPut } from './pair.ts';
import type { Report } from './report.ts';
import { Writer } from './writer.ts';

/** Thoroughly so many that the 99th of a hundred is not the worst. */
const snapshotsOf = { brief: 12, thorough: 120 } as const;
const pauseMsMax = 50;
const windowMs = 400;
const clones = 100;
const clonesSecondsMax = 5;
const liveBytes = 64 * MiB;
const overwritesOf = { brief: 3, thorough: 8 } as const;
const spaceMax = 1.3;

export async function lifecycle(report: Report, { how }: Effort): Promise<void> {
  for (const bytes of [GiB, TiB]) await snapshotPauses(report, bytes, snapshotsOf[how]);
  await cloning(report);
  await space(report, overwritesOf[how]);
}

async function snapshotPauses(report: Report, bytes: number, snapshots: number): Promise<void> {
  await using pair = await Pair.start(stayPut);
  await pair.makeDisk(bytes);
  await using writer = await Writer.start(pair.a.at(diskName), bytes);
  const without: number[] = [];
  const during: number[] = [];
  const took: number[] = [];
  for (let index = 0; index < snapshots; index += 1) {
    const quietMs = nowMs();
    await writer.doneAfter(quietMs + windowMs);
    without.push(await writer.longestPauseMs(quietMs, quietMs + windowMs));
    const beganMs = nowMs();
    await pair.ask('POST', 'vdisk/snapshot/create', { name: `s${index}` });
    took.push(nowMs() - beganMs);
    during.push(await writer.longestPauseMs(beganMs, beganMs + windowMs));
  }
  report.title(`${bytes / GiB} GiB disk under random writes, ${snapshots} snapshots`);
  report.line('a snapshot until it is on the backend, ms', took);
  report.line('longest pause without one, ms', without);
  report.line('longest pause with one, ms', during, {
    is: 'at most',
    value: pauseMsMax,
    of: 'p99',
  });
  report.ratio('with / without', during, without, { is: 'at most' });
}

async function cloning(report: Report): Promise<void> {
  await using pair = await Pair.start(stayPut);
  await fs.writeFile(pair.a.at(diskName), Buffer.alloc(liveBytes, 1));
  await pair.ask('POST', 'template/create');
  const beganMs = nowMs();
  const numbers = Array.from({ length: clones }, (_, number) => number);
  await Promise.all(
    numbers.map((number) => pair.ask('POST', 'vdisk/clone', { to: `/clone${number}.raw` })),
  );
  const madeMs = nowMs();
  const read = async (number: number) => {
    const host = number % 2 === 0 ? pair.a : pair.b;
    const file = await fs.open(host.at(`clone${number}.raw`), 'r');
    await file.read(Buffer.alloc(MiB), 0, MiB, 0);
    await file.close();
  };
  await Promise.all(numbers.map(read));
  const target = { is: 'at most', value: clonesSecondsMax } as const;
  report.title(`${clones} clones of a template of ${liveBytes / MiB} MiB, at once`);
  report.line('to make them, s', [(madeMs - beganMs) / 1000], target);
  report.line('to open each on one of two hosts and read 1 MiB, s', [(nowMs() - madeMs) / 1000]);
}

/** A disk is overwritten at random, several times over, and left alone until it has settled. */
async function space(report: Report, overwrites: number): Promise<void> {
  // Small segments, so that there are as many as a large disk has.
  await using pair = await Pair.start({ ...stayPut, volumes: { segment: '512KiB', cut: '4MiB' } });
  await pair.makeDisk(liveBytes);
  const file = await fs.open(pair.a.at(diskName), 'r+');
  const block = Buffer.alloc(4096, 1);
  const blocks = liveBytes / block.length;
  for (let index = 0; index < blocks; index += 1)
    await file.write(block, 0, block.length, index * block.length);
  for (let index = 0; index < overwrites * blocks; index += 1)
    await file.write(block, 0, block.length, Math.floor(Math.random() * blocks) * block.length);
  await file.close();
  await pair.a.sync(`/${diskName}`);
  const found = await pair.ask<CompactionReport>('POST', 'vdisk/compact');
  await pair.a.until('dead segments are deleted', async () => {
    const before = storedBytes(pair);
    await new Promise((resolve) => setTimeout(resolve, 500));
    return storedBytes(pair) === before;
  });
  const { rewrittenBytes, reclaimedBytes } = found;
  report.title(`${liveBytes / MiB} MiB disk, overwritten ${overwrites} times at random`);
  report.line('stored / live, once settled', [storedBytes(pair) / liveBytes], {
    ...{ is: 'at most', value: spaceMax },
  });
  report.line('bytes rewritten for each won back', [rewrittenBytes / Math.max(1, reclaimedBytes)]);
}

/** Of the volumes' buckets. */
function storedBytes({ store }: Pair): number {
  const volumes = readdirSync(store).filter((name) => /-[0-9a-f]{32}$/.test(name));
  let bytes = 0;
  for (const volume of volumes)
    for (const name of readdirSync(join(store, volume), { recursive: true, encoding: 'utf8' })) {
      const found = statSync(join(store, volume, name), { throwIfNoEntry: false });
      if (found?.isFile() === true) bytes += found.size;
    }
  return bytes;
}
