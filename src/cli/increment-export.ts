/** `wharf vdisk export --since`: what changed from one snapshot of a vDisk to another, as a file. */

import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { describeError } from '../core/errors.ts';
import { objectId } from '../core/units.ts';
import { formatSize, formatTime } from '../daemon/units.ts';
import type { DiffState } from '../frontend/admin/vdisk-diff.ts';
import type { SnapshotReport } from '../frontend/admin/vdisk-snapshots.ts';
import type { IncrementRecord } from '../format/increment.ts';
import { encodeIncrementHeader, encodeIncrementRecord } from '../format/increment.ts';
import type { Checksum } from '../ports/checksum.ts';
import { ahead } from './ahead.ts';
import { bestChecksum } from './best-checksum.ts';
import { call, insideVpool, splitSnapshot } from './client.ts';
import { exitCode } from './exit-code.ts';
import { orNothing } from './half-made.ts';
import type { CopyOptions, Vpool } from './image-place.ts';
import { fail } from './image-place.ts';
import { Progress } from './progress.ts';
import { print } from './reports.ts';
import type { SnapshotDiff } from './snapshot-diff.ts';
import { openDiff } from './snapshot-diff.ts';
import { readFully } from './sparse-copy.ts';
import { wholeFile } from './whole-file.ts';

/** Pieces that are read while one is written: a backend answers in some ten milliseconds. */
const readsAtOnce = 8;

const deleteAttempts = 10;
const deletePauseMs = 200;

/** What the daemon says of one. */
export type ShownSnapshot = SnapshotReport & { readonly path: string; readonly file: string };

export interface IncrementSums {
  pieces: number;
  dataBytes: number;
  zeroesBytes: number;
}

/** Bytes, one behind another. */
type Put = (bytes: Uint8Array) => Promise<void>;

export async function exportIncrement(
  { admin, mount }: Vpool,
  given: string,
  to: string,
  options: CopyOptions & { readonly since: string },
): Promise<void> {
  const { since, format } = options;
  if (format !== undefined && format !== 'raw')
    fail(`an increment has a format of its own: --format ${format} says nothing`, exitCode.usage);
  const { path: disk, name } = splitSnapshot(given);
  if (name === since) fail(`nothing changes from @${since} to itself`, exitCode.usage);
  const path = insideVpool(disk);
  const find = (snapshot: string) =>
    call<ShownSnapshot>(admin, 'GET', '/v1/vdisk/snapshot', { path, name: snapshot });
  await find(since);
  let made: ShownSnapshot | undefined;
  let source: FileHandle | undefined;
  const naming = {
    begin: async () => {
      if (name === undefined)
        made = await call(admin, 'POST', '/v1/vdisk/snapshot/create', { path });
    },
    undo: async () => {
      // What is read is not deleted.
      await source?.close();
      if (made) await giveUp(admin, path, made.name);
    },
  };
  const write = async (put: Put): Promise<Written> => {
    const { name: snapshot, file } = await find(name ?? made?.name ?? '');
    await using diff = await openDiff(admin, disk, since, snapshot);
    const progress = new Progress(diff.to.sizeBytes);
    source = await open(join(mount, file), 'r');
    try {
      const sums = await writeIncrement(put, diff, source, progress);
      progress.end();
      return { path, since, snapshot, ...sums, tookMs: progress.tookMs };
    } finally {
      progress.end();
      await source.close();
    }
  };
  if (to === '-') {
    const { snapshot } = await orNothing(naming, () => write(putInto(process.stdout)));
    if (made) process.stderr.write(`wharf: ${path}: exported as @${snapshot}\n`);
    return;
  }
  const written = await wholeFile(to, (file) => write(appendTo(file)), naming);
  print(options, { ...written, file: resolve(to) }, () => {
    const what = `from @${since} to @${written.snapshot}: ${describeSums(written)}`;
    return `${path}: ${what}, exported to ${to} (${formatTime(written.tookMs)})\n`;
  });
}

/** The mount tells a moment late that a file was closed. */
async function giveUp(admin: string, path: string, name: string): Promise<void> {
  for (let left = deleteAttempts; ; left -= 1) {
    try {
      await call(admin, 'POST', '/v1/vdisk/snapshot/delete', { path, name });
      return;
    } catch (error) {
      if (left > 1) await new Promise((resolve) => setTimeout(resolve, deletePauseMs));
      else
        return void process.stderr.write(`wharf: ${path}@${name} stays: ${describeError(error)}\n`);
    }
  }
}

interface Written extends IncrementSums {
  readonly path: string;
  readonly since: string;
  readonly snapshot: string;
  readonly tookMs: number;
}

export function describeSums({ dataBytes, zeroesBytes }: IncrementSums): string {
  return `${formatSize(dataBytes)} of data and ${formatSize(zeroesBytes)} of zeroes`;
}

async function writeIncrement(
  put: Put,
  { volume, from, to, pieces }: SnapshotDiff,
  source: FileHandle,
  progress: Progress,
): Promise<IncrementSums> {
  const checksum = bestChecksum();
  const header = { volume: objectId(volume), from: stateOf(from), to: stateOf(to) };
  const begun = encodeIncrementHeader(header, checksum);
  await put(begun.value);
  let { chain } = begun;
  const sums = { pieces: 0, dataBytes: 0, zeroesBytes: 0 };
  const add = async (record: IncrementRecord, data: Uint8Array = new Uint8Array(0)) => {
    const encoded = encodeIncrementRecord(record, chain, checksum);
    chain = encoded.chain;
    await put(Buffer.concat([encoded.value, data]));
  };
  for await (const { record, data } of ahead(pieces, readsAtOnce, (piece) =>
    recordOf(piece, source, checksum),
  )) {
    if (record === undefined) continue;
    await add(record, data);
    sums.pieces += 1;
    sums[record.kind === 'data' ? 'dataBytes' : 'zeroesBytes'] += record.length;
    progress.note(record.offset + record.length, data.length);
  }
  await add({ kind: 'end', records: sums.pieces, dataBytes: sums.dataBytes });
  return sums;
}

const nothing = new Uint8Array(0);

type Piece = SnapshotDiff['pieces'] extends AsyncGenerator<infer One> ? One : never;

async function recordOf(piece: Piece, source: FileHandle, checksum: Checksum) {
  if ('doneBytes' in piece) return { record: undefined, data: nothing };
  const { offset, length, what, before = 0 } = piece;
  if (what === 'zeroes') return { record: { kind: what, offset, length }, data: nothing };
  const data = Buffer.alloc(length);
  await readFully(source, offset, data);
  const record = { kind: what, offset, length, before, checksum: checksum.crc32c(data) };
  return { record, data };
}

function stateOf({ name = '', createdNs, sizeBytes }: DiffState) {
  return { name, createdNs: BigInt(createdNs), sizeBytes };
}

function appendTo(file: FileHandle): Put {
  return async (bytes) => {
    for (let done = 0; done < bytes.length; )
      done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
  };
}

function putInto(stream: Writable): Put {
  // The callback of the write tells of it as well.
  stream.on('error', () => {});
  return (bytes) =>
    new Promise((resolve, reject) =>
      stream.write(bytes, (error) => (error ? reject(error) : resolve())),
    );
}
