/** What many volumes cost that nobody uses. */

import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/core/units.ts';
import type { Daemon } from '../support/daemon.ts';
import { metricsOf, processorSeconds, residentBytes } from './metrics.ts';
import type { Report } from './report.ts';

const samples = 3;
const sampleMs = 3000;
const quietMs = 1000;
const coreShareMax = 0.01;
const residentMiBMax = 300;

/** Of the daemon, once nothing is under way any more. */
export async function tellIdle(report: Report, daemon: Daemon, what: string): Promise<void> {
  await untilQuiet(daemon);
  const used: number[] = [];
  const passed: number[] = [];
  const resident: number[] = [];
  for (let index = 0; index < samples; index += 1) {
    const [before, began] = [processorSeconds(daemon.pid), performance.now()];
    await sleep(sampleMs);
    used.push(processorSeconds(daemon.pid) - before);
    passed.push((performance.now() - began) / 1000);
    resident.push(residentBytes(daemon.pid) / MiB);
  }
  report.title(what);
  report.ratio('processor time / one core', used, passed, { is: 'at most', value: coreShareMax });
  report.line('memory, MiB', resident, { is: 'at most', value: residentMiBMax });
}

/** All is on the object store, and no request goes there. */
async function untilQuiet(daemon: Daemon): Promise<void> {
  let before = Number.NaN;
  await daemon.until('nothing is under way', async () => {
    await sleep(quietMs);
    const metrics = await metricsOf(daemon.admin);
    const requests = metrics('wharf_backend_request_seconds_count');
    const isQuiet = requests === before && metrics('wharf_not_destaged_bytes') === 0;
    before = requests;
    return isQuiet;
  });
}
