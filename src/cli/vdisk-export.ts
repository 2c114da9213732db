/**
 * `wharf vdisk export`: a vDisk or a snapshot of one becomes an image, through the mount of a daemon
 * of this machine. It has a temporary name beside its own until it is durable.
 */

import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatSize, formatTime } from '../daemon/units.ts';
import { call, insideVpool, splitSnapshot } from './client.ts';
import { CliError, exitCode } from './exit-code.ts';
import type { CopyOptions, Vpool } from './image-place.ts';
import { fail, findVpool, refuseFormat } from './image-place.ts';
import { Progress } from './progress.ts';
import { convert } from './qemu-img.ts';
import { print } from './reports.ts';
import { piecesOfFile, writeInOrder, writeSparse } from './sparse-copy.ts';
import type { ShownSnapshot } from './increment-export.ts';
import { exportIncrement } from './increment-export.ts';
import { refuseStanding, wholeFile } from './whole-file.ts';

export interface ExportOptions extends CopyOptions {
  /** Only what changed since this snapshot. */
  readonly since?: string;
}

/** `path`: a vDisk as it is now, or `PATH@SNAPSHOT`. */
export async function exportVdisk(path: string, to: string, options: ExportOptions): Promise<void> {
  refuseFormat(options);
  if (to === '-') refuseStream(options);
  else await refuseStanding(to, options);
  const vpool = await findVpool(path, options);
  const { since } = options;
  if (since === undefined) await exportImage(vpool, path, to, options);
  else await exportIncrement(vpool, path, to, { ...options, since });
}

async function exportImage(
  vpool: Vpool,
  path: string,
  to: string,
  options: CopyOptions,
): Promise<void> {
  const { format = 'raw' } = options;
  const { name, file: from, sizeBytes } = await sourceOf(vpool, path);
  const progress = new Progress(sizeBytes);
  const source = await open(from, 'r');
  try {
    const { size } = await source.stat();
    if (to === '-') await exportToStream(source, size, progress);
    else if (format === 'raw') await exportToFile(source, size, to, progress);
    else await exportByQemuImg(from, to, format, progress);
  } finally {
    await source.close();
    progress.end();
  }
  if (to === '-') return;
  const { tookMs } = progress;
  const file = resolve(to);
  print(options, { path: name, file, format, sizeBytes, tookMs }, () => {
    return `${name}: ${formatSize(sizeBytes)} exported to ${to}, as ${format} (${formatTime(tookMs)})\n`;
  });
}

interface Source {
  readonly name: string;
  /** On this machine. */
  readonly file: string;
  readonly sizeBytes: number;
}

/** Of a name with an @ in it, a vDisk of the whole name is meant where there is one. */
async function sourceOf({ admin, mount }: Vpool, given: string): Promise<Source> {
  const { path, name } = splitSnapshot(given);
  const query = { path: insideVpool(given) };
  const disk = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', query).catch((error: unknown) => {
    const isNone = error instanceof CliError && error.code === exitCode.notFound;
    if (!isNone || name === undefined) throw error;
  });
  if (disk) {
    if (disk.isInUse === true)
      process.stderr.write(
        `wharf: ${disk.path} is open: what is written meanwhile may be missing\n`,
      );
    return { name: disk.path, file: join(mount, disk.path), sizeBytes: disk.sizeBytes };
  }
  const asked = { path: insideVpool(path), name: name ?? '' };
  const kept = await call<ShownSnapshot>(admin, 'GET', '/v1/vdisk/snapshot', asked);
  const { sizeBytes } = kept;
  return { name: `${kept.path}@${kept.name}`, file: join(mount, kept.file), sizeBytes };
}

function refuseStream({ format, json }: CopyOptions): void {
  if (format !== undefined && format !== 'raw')
    fail(`only raw can be piped, not ${format}`, exitCode.usage);
  if (json === true) fail('--json has no place beside the image', exitCode.usage);
  if (process.stdout.isTTY) fail('an image does not go to a terminal', exitCode.usage);
}

async function exportToStream(
  source: FileHandle,
  sizeBytes: number,
  progress: Progress,
): Promise<void> {
  const note = (done: number, written: number) => progress.note(done, written);
  await writeInOrder(process.stdout, sizeBytes, piecesOfFile(source, sizeBytes), note);
}

async function exportToFile(
  source: FileHandle,
  sizeBytes: number,
  to: string,
  progress: Progress,
): Promise<void> {
  await wholeFile(to, async (file) => {
    await file.truncate(sizeBytes);
    const note = (done: number, written: number) => progress.note(done, written);
    await writeSparse(file, piecesOfFile(source, sizeBytes), note);
  });
}

async function exportByQemuImg(
  from: string,
  to: string,
  format: string,
  progress: Progress,
): Promise<void> {
  await wholeFile(to, (_file, temporary, signal) =>
    convert({
      ...{ from, fromFormat: 'raw', to: temporary, toFormat: format, signal },
      isTargetZero: false,
      onProgress: (share) => progress.reach(share),
    }),
  );
}
