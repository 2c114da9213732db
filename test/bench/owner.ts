/**
 * The path of the owner's I/O through FUSE, against the bare file and others behind FUSE: in memory,
 * where nothing but the path costs, and on this machine's disk.
 */

import { tmpdir } from 'node:os';
import { GiB, MiB } from '../../src/core/units.ts';
import type { Entrant } from './compare.ts';
import { compareRow, Field, subject, verifyRows } from './compare.ts';
import {
  fuseNativeMissing,
  passthroughMissing,
  qemuMissing,
  startBareFile,
  startFuseNative,
  startPassthrough,
  startQemuExport,
} from './contenders/local.ts';
import { Wharf } from './contenders/wharf.ts';
import type { Effort } from './effort.ts';
import { hasRoom, memoryFolder } from './places.ts';
import type { Report } from './report.ts';
import { pathRows, ssdRows, verifiedJobs } from './rows.ts';

const pathDiskBytes = 256 * MiB;
const memoryFreeMin = 4 * GiB;
/** So much that in one sample hardly a block is read twice. */
const ssdDiskBytes = 2 * GiB;
const ssdFreeMin = 20 * GiB;
const verifiedBytes = 64 * MiB;

const wharf: Entrant = { name: subject, start: (place) => Wharf.start(place) };
const bareFile: Entrant = { name: 'bare file', start: startBareFile };
const qemu: Entrant = { name: 'qemu-storage-daemon', missing: qemuMissing, start: startQemuExport };
/** The first can't write past the page cache on a disk: its buffers are not aligned. */
const inMemoryAlone: readonly Entrant[] = [
  { name: 'passthrough_ll', missing: passthroughMissing, start: startPassthrough },
  { name: 'fuse-native', missing: fuseNativeMissing, start: startFuseNative },
];

export async function path(report: Report, effort: Effort): Promise<void> {
  if (!hasRoom(memoryFolder, memoryFreeMin, report)) return;
  const entrants = [wharf, bareFile, qemu, ...inMemoryAlone];
  const place = { parent: memoryFolder, diskBytes: pathDiskBytes };
  await using field = await Field.start(entrants, place, report);
  for (const row of pathRows) await compareRow(report, field, row, effort);
  await tellMisses(report, field);
  await verifyRows(report, field, verifiedJobs, verifiedBytes);
}

export async function ssd(report: Report, effort: Effort): Promise<void> {
  if (!hasRoom(tmpdir(), ssdFreeMin, report)) return;
  const place = { diskBytes: ssdDiskBytes };
  await using field = await Field.start([wharf, bareFile, qemu], place, report);
  for (const row of ssdRows) await compareRow(report, field, row, effort);
  await tellMisses(report, field);
}

/** What is read here is to come from the host's own cache. */
async function tellMisses(report: Report, field: Field): Promise<void> {
  const metrics = await (field.get(subject) as Wharf).metrics();
  const misses = metrics('wharf_cache_misses_total');
  const reads = misses + metrics('wharf_cache_hits_total');
  report.title('reads that the cache was asked for');
  report.ratio('not answered by it / all', [misses], [reads], { is: 'at most', value: 0.001 });
}
