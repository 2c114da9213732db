/** fio on a disk of a mount, past the page cache. */

import { run } from '../support/servers.ts';

export interface FioJob {
  readonly path: string;
  readonly what: 'randread' | 'randwrite';
  /** Requests under way at once. */
  readonly depth: number;
}

export interface FioResult {
  readonly perSecond: number;
  /** Median, from the call to its return. */
  readonly latencyUs: number;
}

interface Direction {
  readonly iops: number;
  readonly lat_ns: { readonly percentile: Readonly<Record<string, number>> };
}

const seconds = '2';
const warmUp = '500ms';

const always = ['--name=bench', '--output-format=json', '--verify_state_save=0', '--direct=1'];

/** 4 KiB at random places. */
export async function fio({ path, what, depth }: FioJob): Promise<FioResult> {
  const { stdout } = await run('fio', [
    ...[...always, `--filename=${path}`, `--rw=${what}`, '--bs=4k', `--iodepth=${depth}`],
    ...['--ioengine=io_uring', '--time_based=1', `--runtime=${seconds}`, `--ramp_time=${warmUp}`],
    ...['--norandommap=1', '--lat_percentiles=1', '--clat_percentiles=0', '--percentile_list=50'],
  ]);
  const { jobs } = JSON.parse(stdout) as { jobs: [{ read: Direction; write: Direction }] };
  const { iops, lat_ns } = what === 'randread' ? jobs[0].read : jobs[0].write;
  return { perSecond: iops, latencyUs: (lat_ns.percentile['50.000000'] ?? Number.NaN) / 1000 };
}

/** Writes a part of a disk, or all of it. */
export async function fill(path: string, bytes: number): Promise<void> {
  const what = ['--rw=write', '--bs=1m', '--iodepth=8', '--ioengine=io_uring'];
  await run('fio', [...always, `--filename=${path}`, `--size=${bytes}`, ...what]);
}
