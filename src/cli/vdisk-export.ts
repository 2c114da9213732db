/**
 * `wharf vdisk export`: a vDisk becomes an image, through the mount of a daemon of this machine. It
 * has a temporary name beside its own until it is durable.
 */

import type { FileHandle } from 'node:fs/promises';
import { open, rename } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatSize, formatTime } from '../daemon/units.ts';
import { call, insideVpool } from './client.ts';
import { exitCode } from './exit-code.ts';
import { orNothing } from './half-made.ts';
import type { CopyOptions } from './image-place.ts';
import { fail, findVpool, refuseFormat, standingAt, temporaryName } from './image-place.ts';
import { Progress } from './progress.ts';
import { convert } from './qemu-img.ts';
import { print } from './reports.ts';
import { piecesOfFile, writeInOrder, writeSparse } from './sparse-copy.ts';

export async function exportVdisk(path: string, to: string, options: CopyOptions): Promise<void> {
  refuseFormat(options);
  const { format = 'raw' } = options;
  if (to === '-') refuseStream(options);
  else await refuseStanding(to, options);
  const { admin, mount } = await findVpool(path, options);
  const query = { path: insideVpool(path) };
  const disk = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', query);
  if (disk.isInUse === true)
    process.stderr.write(`wharf: ${disk.path} is open: what is written meanwhile may be missing\n`);
  const from = join(mount, disk.path);
  const progress = new Progress(disk.sizeBytes);
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
  const { sizeBytes } = disk;
  const { tookMs } = progress;
  const file = resolve(to);
  print(options, { path: disk.path, file, format, sizeBytes, tookMs }, () => {
    return `${disk.path}: ${formatSize(sizeBytes)} exported to ${to}, as ${format} (${formatTime(tookMs)})\n`;
  });
}

function refuseStream({ format, json }: CopyOptions): void {
  if (format !== undefined && format !== 'raw')
    fail(`only raw can be piped, not ${format}`, exitCode.usage);
  if (json === true) fail('--json has no place beside the image', exitCode.usage);
  if (process.stdout.isTTY) fail('an image does not go to a terminal', exitCode.usage);
}

async function refuseStanding(to: string, { force }: CopyOptions): Promise<void> {
  const standing = await standingAt(to);
  if (standing && !standing.isFile()) fail(`${to} is no file: it is not replaced`);
  if (standing && force !== true) fail(`${to} exists already; --force replaces it`);
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
  await whole(to, async (file) => {
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
  await whole(to, (_file, temporary, signal) =>
    convert({
      ...{ from, fromFormat: 'raw', to: temporary, toFormat: format, signal },
      isTargetZero: false,
      onProgress: (share) => progress.reach(share),
    }),
  );
}

/** The file has its name once it is durable. */
async function whole(
  to: string,
  write: (file: FileHandle, temporary: string, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const temporary = join(dirname(resolve(to)), temporaryName());
  const begin = async () => (await open(temporary, 'wx')).close();
  await orNothing({ temporary, begin }, async (signal) => {
    const file = await open(temporary, 'r+');
    try {
      await write(file, temporary, signal);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, to);
  });
}
