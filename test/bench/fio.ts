/** fio on a disk, past the page cache. */

import { MiB } from '../../src/core/units.ts';
import { run } from '../support/servers.ts';

/** What fio opens. */
export type Disk = { readonly file: string } | { readonly rbd: RbdImage };

interface RbdImage {
  readonly configuration: string;
  readonly pool: string;
  readonly image: string;
}

export interface FioJob {
  readonly what: 'read' | 'write' | 'randread' | 'randwrite' | 'randrw';
  readonly blockBytes: number;
  /** Requests under way at once, of each job. */
  readonly depth: number;
  /** Processes that do the same. */
  readonly jobs?: number;
  /** After each write. */
  readonly sync?: 'fsync' | 'fdatasync';
  /** Of `randrw`: so many of a hundred are reads. */
  readonly readsOfHundred?: number;
  /** Some blocks are used more than others. */
  readonly isSkewed?: boolean;
  /** Writes at most so many blocks each second. */
  readonly writesPerSecondMax?: number;
}

export interface FioResult {
  /** Reads and writes. */
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  /** From the call to its return. */
  readonly latencyUs: { readonly median: number; readonly p999: number };
}

interface Direction {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  readonly lat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

const outputMax = 16 * MiB;
/** A sample begins when the disk is in full swing. */
const warmUpShare = 0.25;
const always = ['--name=bench', '--output-format=json', '--verify_state_save=0', '--direct=1'];

/** One request of a process at a time is a plain system call. */
export async function fio(disk: Disk, job: FioJob, seconds: number): Promise<FioResult> {
  const [ms, warmUpMs] = [seconds, seconds * warmUpShare].map((time) => Math.round(time * 1000));
  const output = await runFio(disk, job.depth, [
    ...jobArguments(job),
    ...['--time_based=1', `--runtime=${ms}ms`, `--ramp_time=${warmUpMs}ms`],
    ...['--lat_percentiles=1', '--clat_percentiles=0', '--percentile_list=50:99.9'],
  ]);
  return resultOf(output);
}

/** Reads a disk once, from its beginning; gives bytes per second. */
export async function readThrough(disk: Disk, bytes: number, depth: number): Promise<number> {
  const shape = ['--rw=read', '--bs=1m', `--size=${bytes}`, `--iodepth=${depth}`];
  return resultOf(await runFio(disk, depth, shape)).bytesPerSecond;
}

/** Reads so many blocks at random, one after another. */
export async function readSome(disk: Disk, bytes: number, count: number): Promise<FioResult> {
  const shape = ['--rw=randread', '--bs=4k', `--size=${bytes}`, `--number_ios=${count}`];
  const more = ['--randrepeat=0', '--lat_percentiles=1', '--percentile_list=50:99.9'];
  return resultOf(await runFio(disk, 1, [...shape, ...more]));
}

/** Writes a part of a disk, or all of it: one behind another, or each block once in random order. */
export async function fill(
  disk: Disk,
  bytes: number,
  order: 'in order' | 'at random' = 'in order',
): Promise<void> {
  const shape = order === 'in order' ? ['--rw=write', '--bs=1m'] : ['--rw=randwrite', '--bs=4k'];
  const depth = order === 'in order' ? 8 : 32;
  const content = ['--refill_buffers=1', `--size=${bytes}`, `--iodepth=${depth}`];
  await runFio(disk, depth, [...shape, ...content]);
}

/** Writes, and reads back what was written, checksum by checksum; rejects where it is not that. */
export async function verify(disk: Disk, job: FioJob, bytes: number): Promise<void> {
  const { what, blockBytes, depth, sync } = job;
  await runFio(disk, depth, [
    ...[`--rw=${what}`, `--bs=${blockBytes}`, `--iodepth=${depth}`, `--size=${bytes}`],
    ...['--verify=crc32c', '--do_verify=1', '--verify_fatal=1'],
    ...(sync ? [`--${sync}=16`] : []),
  ]);
}

function jobArguments(job: FioJob): string[] {
  const { what, blockBytes, depth, jobs = 1, sync, readsOfHundred, isSkewed } = job;
  const isRandom = what.startsWith('rand');
  return [
    ...[`--rw=${what}`, `--bs=${blockBytes}`, `--iodepth=${depth}`],
    ...[`--numjobs=${jobs}`, '--group_reporting=1'],
    ...(isRandom ? ['--norandommap=1', '--randrepeat=0'] : []),
    ...(sync ? [`--${sync}=1`] : []),
    ...(readsOfHundred === undefined ? [] : [`--rwmixread=${readsOfHundred}`]),
    ...(isSkewed === true ? ['--random_distribution=zipf:1.2'] : []),
    ...(job.writesPerSecondMax === undefined ? [] : [`--rate_iops=,${job.writesPerSecondMax}`]),
  ];
}

async function runFio(disk: Disk, depth: number, argv: readonly string[]): Promise<string> {
  const env = { ...process.env };
  const engine = depth === 1 ? 'psync' : 'io_uring';
  let place = [`--ioengine=${engine}`, `--filename=${'file' in disk ? disk.file : ''}`];
  if ('rbd' in disk) {
    const { configuration, pool, image } = disk.rbd;
    env['CEPH_CONF'] = configuration;
    place = ['--ioengine=rbd', '--clientname=admin', `--pool=${pool}`, `--rbdname=${image}`];
  }
  const options = { env, maxBuffer: outputMax };
  return (await run('fio', [...always, ...place, ...argv], options)).stdout;
}

/** Of what fio prints, warnings before it or not. */
export function resultOf(output: string): FioResult {
  const { jobs } = JSON.parse(output.slice(output.indexOf('{'))) as {
    jobs: [{ read: Direction; write: Direction }];
  };
  const { read, write } = jobs[0];
  const { percentile = {} } = (read.total_ios > 0 ? read : write).lat_ns;
  const us = (share: string) => (percentile[share] ?? Number.NaN) / 1000;
  return {
    perSecond: read.iops + write.iops,
    bytesPerSecond: read.bw_bytes + write.bw_bytes,
    latencyUs: { median: us('50.000000'), p999: us('99.900000') },
  };
}
