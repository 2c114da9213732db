/** What a daemon counts: its own `/metrics`, and what the kernel says of its process. */

import { readFileSync } from 'node:fs';

/** The sum of the samples of a metric whose labels include `label`. */
export type Metrics = (name: string, label?: string) => number;

export async function metricsOf(admin: string): Promise<Metrics> {
  return parseMetrics(await (await fetch(`${admin}/metrics`)).text());
}

export function parseMetrics(text: string): Metrics {
  const samples = [...text.matchAll(/^(\w+)(\{[^}]*\})? (\S+)$/gm)];
  return (name, label = '') =>
    samples
      .filter(([, found, labels = '']) => found === name && labels.includes(label))
      .reduce((sum, [, , , value]) => sum + Number(value), 0);
}

/** Of `/proc/PID/stat`, in the kernel's unit, which has been a hundredth of a second for ever. */
const ticksPerSecond = 100;

/** Processor time that a process has used, seconds. */
export function processorSeconds(pid: number): number {
  // Behind the name, which may hold anything.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Memory of a process, bytes. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}
