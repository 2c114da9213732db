/**
 * `wharf vdisk import`: an image becomes a vDisk, through the mount of a daemon of this machine. It
 * has a temporary name beside its own until it is durable.
 */

import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatSize, formatTime } from '../daemon/units.ts';
import { call, nameInVpool } from './client.ts';
import { exitCode } from './exit-code.ts';
import { making, orNothing } from './half-made.ts';
import type { CopyOptions, Vpool } from './image-place.ts';
import { fail, findVpool, refuseFormat, standingAt, temporaryName } from './image-place.ts';
import type { Raw, Source } from './import-source.ts';
import { openSource } from './import-source.ts';
import { Progress } from './progress.ts';
import { convert } from './qemu-img.ts';
import { print } from './reports.ts';
import { writeSparse } from './sparse-copy.ts';

/** The smallest disk; that of a stream grows as it comes. */
const sectorBytes = 512;

export async function importVdisk(from: string, path: string, options: CopyOptions): Promise<void> {
  refuseFormat(options);
  const named = nameInVpool(path);
  const [, vpoolName = '', folder = '', name = ''] =
    /^([a-z][a-z0-9-]*:)?(\/|\/.*\/)([^/]+)$/.exec(named) ??
    fail(`${path} is no name of a vDisk`, exitCode.usage);
  const vpool = await findVpool(path, options);
  const { admin, mount } = vpool;
  await refuseStanding(vpool, folder + name, options);
  const source = await openSource(from, options.format);
  const temporary = folder + temporaryName();
  const target = join(mount, temporary);
  const size = String(wholeSectors(source.sizeBytes ?? 1));
  const creating = { path: vpoolName + temporary, size };
  const begin = () => call(admin, 'POST', '/v1/vdisk/create', creating);
  const progress = new Progress(source.sizeBytes);
  const imported = await orNothing(making(target, begin), async (signal) => {
    await fill(target, source, progress, signal);
    const replace = options.force === true ? '1' : '0';
    const renaming = { path: temporary, to: folder + name, replace };
    return call<VdiskReport>(admin, 'POST', '/v1/vdisk/rename', renaming);
  }).finally(() => progress.end());
  const { tookMs } = progress;
  const { renamedFrom: _temporary, ...report } = imported as VdiskReport & { renamedFrom: string };
  const sizes = `${formatSize(report.sizeBytes)}, ${formatSize(report.usedBytes)} used`;
  print(options, { ...report, format: source.format, tookMs }, () => {
    return `${report.path}: ${sizes}, from ${source.format} (${formatTime(tookMs)})\n`;
  });
}

const wholeSectors = (bytes: number) => Math.ceil(bytes / sectorBytes) * sectorBytes;

async function refuseStanding(
  { admin, mount }: Vpool,
  path: string,
  { force }: CopyOptions,
): Promise<void> {
  const standing = await standingAt(join(mount, path));
  if (!standing) return;
  if (force !== true) fail(`${path} exists already; --force replaces it`);
  if (!standing.isFile()) fail(`${path} is no file: it is not replaced`);
  const { isInUse } = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', { path });
  if (isInUse === true) fail(`${path} is open: it is not replaced`);
}

async function fill(
  target: string,
  source: Source,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  if (source.kind === 'image') await fillByQemuImg(target, source, progress, signal);
  const file = await open(target, 'r+');
  try {
    if (source.kind === 'raw') await file.truncate(await fillRaw(file, source, progress));
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Gives the size that it is to have: also what is zeroes at its end counts. */
async function fillRaw(
  file: Awaited<ReturnType<typeof open>>,
  { pieces, sizeBytes }: Raw,
  progress: Progress,
): Promise<number> {
  const end = await writeSparse(file, pieces, (done, written) => progress.note(done, written));
  if (end === 0 && sizeBytes === undefined) fail('nothing has come: that is no disk');
  return sizeBytes ?? end;
}

async function fillByQemuImg(
  target: string,
  { path, format }: Extract<Source, { kind: 'image' }>,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  await convert({
    ...{ from: path, fromFormat: format, to: target, toFormat: 'raw', signal },
    isTargetZero: true,
    onProgress: (share) => progress.reach(share),
  });
}
