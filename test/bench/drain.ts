/**
 * What a thousand volumes cost their host while nobody uses them, and how long it takes to hand them
 * all over, before maintenance.
 */

import type { FileHandle } from 'node:fs/promises';
import * as fs from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB } from '../../src/core/units.ts';
import { nowMs } from '../support/mount-user.ts';
import { tellIdle } from './idle.ts';
import { Pair, stayPut } from './pair.ts';
import type { Report } from './report.ts';

const volumes = 1000;
const writtenBytes = 64 * KiB;
const madeAtOnce = 8;
const secondsMax = 60;
/** What was written is settled soon, so that they are idle. */
const soonSettled = { destageDelay: '200ms', checkpointDelay: '200ms' } as const;

export async function drain(report: Report): Promise<void> {
  await using pair = await Pair.start({ ...stayPut, volumes: soonSettled });
  await using open = new AsyncDisposableStack();
  const makingMs = nowMs();
  const names = Array.from({ length: volumes }, (_, index) => `disk-${index}.raw`).values();
  const make = async () => {
    for (const name of names) open.use(await written(pair.a.at(name)));
  };
  await Promise.all(Array.from({ length: madeAtOnce }, make));
  const madeMs = nowMs();
  await tellIdle(report, pair.a, `${volumes} volumes in use by nobody`);
  const drainingMs = nowMs();
  await fetch(`${pair.a.admin}/v1/host/drain`, { method: 'POST' });
  for (;;) {
    const response = await fetch(`${pair.a.admin}/v1/host/drain`);
    const progress = (await response.json()) as { state: string; moved: number };
    if (progress.state === 'drained') break;
    if (progress.state === 'failed') throw new Error(JSON.stringify(progress).slice(0, 2000));
    await sleep(100);
  }
  const drainedMs = nowMs();
  report.title(`${volumes} volumes with ${writtenBytes / KiB} KiB each, in use`);
  report.line('to make them, s', [(madeMs - makingMs) / 1000]);
  report.line('to drain their host, s', [(drainedMs - drainingMs) / 1000], {
    ...{ is: 'at most', value: secondsMax },
  });
}

async function written(path: string): Promise<FileHandle> {
  const file = await fs.open(path, 'w');
  await file.write(Buffer.alloc(writtenBytes, 1));
  return file;
}
