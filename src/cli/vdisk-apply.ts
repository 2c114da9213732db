/**
 * `wharf vdisk import --apply`: an increment brings a copy of a vDisk from one snapshot to the next.
 * The copy has to be what the increment starts from: it has a snapshot of that name, is what that
 * was, and holds, wherever the increment brings data, what stood there before. What a failure or a
 * signal leaves is undone by a rollback to that snapshot; what a killed process leaves is not taken
 * for the start of anything, and `--force` rolls it back.
 */

import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, isStorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatTime } from '../daemon/units.ts';
import type { SnapshotReport } from '../frontend/admin/vdisk-snapshots.ts';
import type { IncrementHeader } from '../format/increment.ts';
import { blocksChecksum } from '../format/increment.ts';
import { loadNative } from '../platform/native.ts';
import { ahead } from './ahead.ts';
import { bestChecksum } from './best-checksum.ts';
import { call, insideVpool } from './client.ts';
import { exitCode } from './exit-code.ts';
import { orNothing } from './half-made.ts';
import type { CopyOptions, Vpool } from './image-place.ts';
import { fail, findVpool } from './image-place.ts';
import type { IncrementSums, ShownSnapshot } from './increment-export.ts';
import { describeSums } from './increment-export.ts';
import type { Change, Increment } from './increment-reader.ts';
import { readIncrement } from './increment-reader.ts';
import { Progress } from './progress.ts';
import { print } from './reports.ts';
import { openDiff } from './snapshot-diff.ts';
import { readFully } from './sparse-copy.ts';

const { blockBytes } = limits;
const readsAtOnce = 8;
const zeroesAtOnce = limits.requestBytesMax;
/** How long what is under way when somebody interrupts it is waited for. */
const stopMsMax = 10_000;

interface Source extends Increment {
  /** Nothing comes any more. */
  readonly stop: () => void;
}

interface Target extends Vpool {
  /** In the vPool. */
  readonly path: string;
  /** On this machine. */
  readonly file: string;
  readonly base: ShownSnapshot;
}

export async function applyIncrement(
  from: string,
  given: string,
  options: CopyOptions,
): Promise<void> {
  if (options.format !== undefined)
    fail('an increment has a format of its own: --format says nothing', exitCode.usage);
  const vpool = await findVpool(given, options);
  const increment = await openIncrement(from);
  const { header } = increment;
  const target = await findTarget(vpool, insideVpool(given), header);
  // A pipe is looked at once: there the rollback has to do.
  if (from !== '-') await explain(from, async () => drained(await openIncrement(from)));
  await makeBase(target, options);
  const progress = new Progress(header.to.sizeBytes);
  const sums = await applyOrNothing(target, from, increment, progress).finally(() =>
    progress.end(),
  );
  const { path } = target;
  const { name: snapshot } = header.to;
  const { tookMs } = progress;
  print(options, { path, from: header.from.name, snapshot, ...sums, tookMs }, () => {
    const took = `${describeSums(sums)} applied (${formatTime(tookMs)})`;
    return `${path}: is @${snapshot} now, from @${header.from.name}: ${took}\n`;
  });
}

async function openIncrement(from: string): Promise<Source> {
  if (from === '-' && process.stdin.isTTY)
    fail('an increment does not come from a terminal', exitCode.usage);
  if (from !== '-')
    await stat(from).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') fail(`${from}: no such file`, exitCode.notFound);
      throw error;
    });
  const stream = from === '-' ? process.stdin : createReadStream(from);
  const increment = await explain(from, () => readIncrement(stream, bestChecksum()));
  return { ...increment, stop: () => stream.destroy() };
}

/** Of an increment that is damaged, says which. */
async function explain<T>(from: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isStorageError(error, 'corrupt'))
      fail(`${from === '-' ? 'what comes' : from} is refused: ${error.message}`);
    throw error;
  }
}

async function drained({ changes }: Increment): Promise<void> {
  for await (const _change of changes);
}

async function findTarget(
  vpool: Vpool,
  given: string,
  { from, to }: IncrementHeader,
): Promise<Target> {
  const { admin, mount } = vpool;
  const disk = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', { path: given });
  const { path } = disk;
  if (disk.isInUse === true) fail(`${path} is open: nothing is applied to it`);
  const found = await call<{ readonly snapshots: readonly SnapshotReport[] }>(
    ...([admin, 'GET', '/v1/vdisk/snapshots', { path }] as const),
  );
  const names = found.snapshots.map(({ name }) => name);
  if (names.includes(to.name)) fail(`${path} has a snapshot ${to.name}: it is applied already`);
  if (!names.includes(from.name))
    fail(`${path} has no snapshot ${from.name}, from which the increment starts`);
  const base = await call<ShownSnapshot>(
    ...([admin, 'GET', '/v1/vdisk/snapshot', { path, name: from.name }] as const),
  );
  if (base.sizeBytes !== from.sizeBytes)
    fail(
      `${path}@${from.name} has ${base.sizeBytes} bytes, ` +
        `and what the increment starts from ${from.sizeBytes}: it is of another vDisk`,
    );
  return { ...vpool, path, file: join(mount, path), base };
}

/** The target is what it was then, or is made so where that is forced. */
async function makeBase(target: Target, { force }: CopyOptions): Promise<void> {
  const { path, base } = target;
  if (await isBase(target)) return;
  if (force !== true)
    fail(
      `${path} was changed since @${base.name}: ` +
        `--force rolls it back first, and keeps what it is as a snapshot`,
    );
  process.stderr.write(`wharf: ${path}: what it was is @${await rollBack(target)}\n`);
}

/** Blocks that lie elsewhere may hold the same all the same: those are looked at. */
async function isBase({ admin, mount, path, file, base }: Target): Promise<boolean> {
  await using diff = await openDiff(admin, path, base.name, undefined);
  const { from, to, pieces } = diff;
  if (from.sizeBytes !== to.sizeBytes) return false;
  const [now, then] = [await open(file, 'r'), await open(join(mount, base.file), 'r')];
  try {
    for await (const piece of pieces) {
      if ('doneBytes' in piece) continue;
      const [one, other] = [Buffer.alloc(piece.length), Buffer.alloc(piece.length)];
      await Promise.all([readFully(now, piece.offset, one), readFully(then, piece.offset, other)]);
      if (!one.equals(other)) return false;
    }
    return true;
  } finally {
    await now.close();
    await then.close();
  }
}

async function applyOrNothing(
  target: Target,
  from: string,
  increment: Source,
  progress: Progress,
): Promise<IncrementSums> {
  const { admin, path } = target;
  let applying: Promise<unknown> = Promise.resolve();
  let isDone = false;
  const undo = async () => {
    try {
      if (!(await endsSoon(applying))) throw new Error('a write does not end');
      if (isDone) return;
      await discard(target, await rollBack(target));
    } catch (error) {
      const { name } = target.base;
      process.stderr.write(
        `wharf: ${path} is half of each: wharf vdisk snapshot rollback ${path} ${name} ` +
          `(that failed here: ${describeError(error)})\n`,
      );
    }
  };
  return orNothing({ begin: () => Promise.resolve(), undo }, async (signal) => {
    signal.addEventListener('abort', increment.stop);
    const work = async () => {
      const sums = await explain(from, () => apply(target, increment, progress, signal));
      const asked = { path, name: increment.header.to.name };
      await call(admin, 'POST', '/v1/vdisk/snapshot/create', asked);
      isDone = true;
      return sums;
    };
    const working = work();
    applying = working.catch(() => {});
    return working;
  });
}

async function endsSoon(work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), stopMsMax);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Gives the name of the snapshot of what it was. Whoever has opened it meanwhile sees it change. */
async function rollBack({ admin, path, base }: Target): Promise<string> {
  const asked = { path, name: base.name, force: '1' };
  const done = await call<{ readonly before: string }>(
    ...([admin, 'POST', '/v1/vdisk/snapshot/rollback', asked] as const),
  );
  return done.before;
}

async function discard({ admin, path }: Target, name: string): Promise<void> {
  await call(admin, 'POST', '/v1/vdisk/snapshot/delete', { path, name });
}

async function apply(
  { path, file }: Target,
  { header, changes }: Increment,
  progress: Progress,
  signal: AbortSignal,
): Promise<IncrementSums> {
  const sums = { pieces: 0, dataBytes: 0, zeroesBytes: 0 };
  const { from, to } = header;
  const target = await open(file, 'r+');
  try {
    if (to.sizeBytes > from.sizeBytes) await target.truncate(to.sizeBytes);
    const checked = ahead(changes, readsAtOnce, async (change) => {
      await refuseOther(path, target, from.sizeBytes, change);
      return change;
    });
    for await (const change of checked) {
      signal.throwIfAborted();
      if (change.kind === 'zeroes') await writeZeroes(target, change.offset, change.length);
      else await writeFully(target, change.offset, change.bytes);
      sums.pieces += 1;
      sums[change.kind === 'data' ? 'dataBytes' : 'zeroesBytes'] += change.length;
      progress.note(change.offset + change.length, change.length);
    }
    await target.truncate(to.sizeBytes);
    await target.sync();
    return sums;
  } finally {
    await target.close();
  }
}

/** What data come to has to be what stood there before. */
async function refuseOther(
  path: string,
  target: FileHandle,
  sizeBytes: number,
  change: Change,
): Promise<void> {
  if (change.kind === 'zeroes') return;
  const { offset, length } = change;
  const blocks = Math.ceil(length / blockBytes);
  const found = Buffer.alloc(blocks * blockBytes);
  const there = Math.max(0, Math.min(found.length, sizeBytes - offset));
  await readFully(target, offset, found.subarray(0, there));
  const checksum = bestChecksum();
  const checksums = new Uint32Array(blocks);
  checksum.crc32cBlocks(found, blockBytes, checksums, 0);
  if (blocksChecksum(checksums, checksum) !== change.before)
    fail(`${path} is not what the increment starts from: other data stand at ${offset}`);
}

async function writeFully(file: FileHandle, offset: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
}

/** A hole where the mount can make one. */
async function writeZeroes(file: FileHandle, offset: number, length: number): Promise<void> {
  if (loadNative().native?.allocate(file.fd, offset, length, true) === 0) return;
  const zeroes = new Uint8Array(Math.min(length, zeroesAtOnce));
  for (let done = 0; done < length; done += zeroes.length)
    await writeFully(file, offset + done, zeroes.subarray(0, length - done));
}
