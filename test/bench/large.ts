/**
 * A disk of 1 TiB with ten million blocks here and there: how long it takes to open it and to read
 * one of them with nothing cached, and what it costs in memory. Its 40 GB are not written: 16 MiB
 * are, through the mount, and then a process of its own has the Volume Driver's checkpoints put
 * their places under ten million blocks (scattered-map-process.ts). So the map is a real one, and
 * every block that is read is real and verified; only that many blocks share one place is not. All
 * is in memory, so that making it does not wait for a disk.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { GiB, KiB, MiB, TiB } from '../../src/core/units.ts';
import { run } from '../support/servers.ts';
import { makeFile } from './contenders/contender.ts';
import { Wharf } from './contenders/wharf.ts';
import type { Effort } from './effort.ts';
import { fill, fio } from './fio.ts';
import { interleave } from './interleave.ts';
import { residentBytes } from './metrics.ts';
import { onSignals } from './on-signals.ts';
import { hasRoom, memoryFolder } from './places.ts';
import type { Report } from './report.ts';
import { scatteredBlock } from './scattered-blocks.ts';

const blocks = 10_000_000;
const writtenBytes = 16 * MiB;
const blockBytes = 4 * KiB;
const openMsMax = 200;
const residentMiBMax = 400;
const freeMin = 2 * GiB;
const emptyName = 'empty.raw';
const directFlag = 0o40000;

export async function large(report: Report, { rounds, seconds }: Effort): Promise<void> {
  if (!hasRoom(memoryFolder, freeMin, report)) return;
  const folder = mkdtempSync(join(memoryFolder, 'wharf-bench-'));
  await using closing = new AsyncDisposableStack();
  closing.defer(() => rmSync(folder, { recursive: true, force: true }));
  closing.use(onSignals(() => void closing.disposeAsync()));
  const wharf = closing.use(await Wharf.start({ folder, diskBytes: TiB }));
  const empty = await makeFile(wharf.daemon.at(emptyName), TiB);
  await fill(wharf.disk, writtenBytes);
  await wharf.settle();
  await wharf.daemon.end('SIGTERM');
  const builder = join(import.meta.dirname, 'scattered-map-process.ts');
  const places = [join(wharf.daemon.folder, 'registry.sqlite'), join(folder, 'store')];
  await run(process.execPath, [builder, ...places, String(blocks), String(writtenBytes)]);
  await wharf.daemon.start();
  const ms = { large: [] as number[], empty: [] as number[] };
  const resident: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await interleave(['empty', 'large'] as const, 1, async (which) => {
      await wharf.restartEmptied();
      const offset = scatteredBlock(Math.floor(Math.random() * blocks)) * blockBytes;
      ms[which].push(await firstReadMs(which === 'large' ? wharf.disk.file : empty, offset));
    });
    await fio(wharf.disk, { what: 'randread', blockBytes, depth: 32 }, seconds);
    resident.push(residentBytes(wharf.daemon.pid) / MiB);
  }
  report.title(`1 TiB with ${blocks / 1e6} million scattered blocks`);
  report.line('open and first read, empty disk, ms', ms.empty);
  report.line('open and first read, ms', ms.large, { is: 'at most', value: openMsMax });
  report.ratio('ten million blocks / empty', ms.large, ms.empty, { is: 'at most' });
  const target = { is: 'at most', value: residentMiBMax } as const;
  report.line('memory after reads all over it, MiB', resident, target);
}

/** As after a start of the daemon: it opens the disk for this. */
async function firstReadMs(path: string, offset: number): Promise<number> {
  const block = Buffer.alloc(blockBytes);
  const began = performance.now();
  const file = await fs.open(path, fs.constants.O_RDONLY | directFlag);
  await file.read(block, 0, blockBytes, offset);
  const ms = performance.now() - began;
  await file.close();
  const isEmpty = path.endsWith(emptyName);
  if (block.every((byte) => byte === 0) !== isEmpty) throw new Error('the wrong block was read');
  return ms;
}
