/** What lies in the registry: each record is read as whoever needs it reads it. */

import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import type { Eventually } from '../../../src/core/eventually.ts';
import { limits } from '../../../src/core/limits.ts';
import type { FileName, Ino } from '../../../src/core/units.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import type { Manifest } from '../../../src/file/manifest.ts';
import { decodeManifest, emptyManifest, encodeManifest } from '../../../src/file/manifest.ts';
import type { Registry, Write } from '../../../src/ports/registry.ts';
import {
  encodeCopyRecord,
  noCopy,
  readCopyRecord,
} from '../../../src/registry/copy/copy-record.ts';
import type { HostRecord } from '../../../src/registry/host-records.ts';
import { HostRecords } from '../../../src/registry/host-records.ts';
import type { Entry, Inode } from '../../../src/registry/namespace.ts';
import { decodeEntry, decodeInode, Namespace, putInode } from '../../../src/registry/namespace.ts';
import type { ObjectRecord } from '../../../src/registry/object-records.ts';
import { decodeObject, putObject } from '../../../src/registry/object-records.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import type { SnapshotRecord } from '../../../src/registry/snapshot-records.ts';
import { decodeSnapshot, SnapshotRecords } from '../../../src/registry/snapshot-records.ts';
import type { Undertaking } from '../../../src/registry/snapshot-sets.ts';
import {
  encodePlace,
  encodeUndertaking,
  findPlace,
  listUndertakings,
  undertakingKey,
} from '../../../src/registry/snapshot-sets.ts';
import { decodeVpool } from '../../../src/registry/vpool-record.ts';
import type { Target } from '../target.ts';
import { assertSame } from '../target.ts';

const id = objectId('0123456789abcdef'.repeat(2));
const other = objectId('f'.repeat(32));
const host = hostId('node-1');
const ino = 42 as Ino;

/** A registry in which every key has this value. */
function registryOf(value: Uint8Array, key = 'key'): Registry {
  const found = { key, value, revision: 5 };
  const reads = {
    get: () => Promise.resolve(found),
    range: () => Promise.resolve({ entries: [found], revision: 5 }),
  };
  return reads as unknown as Registry;
}

const bytesOf = (write: Write | undefined): Uint8Array =>
  write && 'put' in write ? new Uint8Array(write.put) : assert.fail('nothing is put');

/** No other numbers are in any record. */
function hasNaturalNumbers(value: unknown): boolean {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0;
  return (
    typeof value !== 'object' || value === null || Object.values(value).every(hasNaturalNumbers)
  );
}

const types: ReadonlySet<string> = new Set(
  'file directory symlink fifo socket character block'.split(' '),
);

/** A record says the same when what was read of it is written again. */
function record<T>(
  name: string,
  encode: (value: T) => Uint8Array,
  decode: (bytes: Uint8Array) => Eventually<T>,
  samples: Readonly<Record<string, T>>,
  isRight: (value: T) => boolean = () => true,
): Target {
  return {
    ...{ name, kind: 'json', refuses: ['corrupt'] },
    samples: Object.fromEntries(
      Object.entries(samples).map(([what, value]) => [what, new Uint8Array(encode(value))]),
    ),
    async decode(input) {
      const found = await decode(input);
      assert.ok(hasNaturalNumbers(found) && isRight(found), `it is ${inspect(found)}`);
      const written = encode(found);
      assertSame(encode(await decode(written)), written);
      return true;
    },
  };
}

const file: Inode = {
  ...{ ino, type: 'file' as const, mode: 0o644, linkCount: 1, uid: 1000, gid: 100, rdev: 0 },
  ...{ sizeBytes: 5000, allocatedBytes: 8192, object: id, kind: 'file' as const },
  ...{ accessedNs: 1n, modifiedNs: 1_700_000_000_000_000_000n, changedNs: -5n },
};
const { object: _object, kind: _kind, ...plain } = file;

const inode = record<Inode>(
  'inode',
  (value) => bytesOf(putInode(value)),
  (bytes) => decodeInode(ino, bytes),
  {
    file,
    kept: { ...file, kept: { object: id, snapshot: 'monday' } },
    folder: { ...plain, type: 'directory', parent: 1 as Ino },
    link: { ...plain, type: 'symlink', target: '../disk.raw' },
  },
  ({ type, kind = 'file' }) => types.has(type) && ['volume', 'file'].includes(kind),
);

const noRegistry = registryOf(new Uint8Array(0));
const namespace = new Namespace(noRegistry, '00'.repeat(16));
const entryKey = `d${'\0'.repeat(7)}\u0001${'\0'.repeat(6)}\u0005\0`;

const entry = record<Entry>(
  'entry',
  ({ name, ino: of, type, cookie }) =>
    bytesOf(namespace.putEntry(1 as Ino, cookie, name, of, type)),
  (bytes) => decodeEntry(entryKey, bytes),
  {
    file: { name: 'disk.raw' as FileName, ino, type: 'file', cookie: 5n << 8n },
    bytes: { name: 'd\u00fcr\u00e9' as FileName, ino, type: 'directory', cookie: 5n << 8n },
  },
  ({ name, type }) => types.has(type) && name.length > 0 && !name.includes('/'),
);

const state = { kind: 'volume', owner: host, epoch: 7, isPinned: false, isFrozen: false } as const;
const object = record<ObjectRecord>(
  'object',
  (value) => bytesOf(putObject(id, value)[0]),
  (bytes) => decodeObject(id, bytes, 5),
  {
    idle: { ...state, id, revision: 5, tail: 'backend', threshold: undefined },
    pinned: {
      ...{ ...state, id, revision: 5, isPinned: true, isFrozen: true },
      ...{ tail: { host, copy: '7-1' }, threshold: { reads: 1, writes: 0, windowMs: 100 } },
    },
  },
  ({ kind, tail }) =>
    ['volume', 'file'].includes(kind) &&
    (typeof tail === 'object' || ['backend', 'owner'].includes(tail)),
);

const noSnapshots = new SnapshotRecords(noRegistry);
const snapshotSample: SnapshotRecord = {
  ...{ name: 'monday', createdNs: 1_700_000_000_000_000_000n, usedBytes: 5000 },
  ...{ at: { epoch: 7, sequence: 3 }, head: Buffer.from('a head') },
};
const snapshot = record(
  'snapshot',
  (value) => bytesOf(noSnapshots.writes(id, value)[0]),
  (bytes) => decodeSnapshot(`s${id}monday`, bytes),
  { monday: snapshotSample },
);

const hostSample = {
  ...{ id: host, instance: 'abc', data: 'def', address: '10.0.0.1:7000', mount: '/mnt', pid: 77 },
  shared: { 'lease.time': '6s', 'peers.key': '0123' },
};
const hostRecord = record<HostRecord>(
  'host',
  ({ id: _id, ...fields }) => encodeRecord(fields),
  async (bytes) =>
    (await new HostRecords(registryOf(bytes, `H${host}`)).find(host)) ?? assert.fail(),
  { plain: hostSample, far: { ...hostSample, domain: 'rack-7' } },
);

const vpool = record('vpool', encodeRecord, decodeVpool, {
  vpool: { name: 'vms', salt: '0123456789abcdef'.repeat(2) },
});

const copyRecord = record(
  'copy-record',
  encodeCopyRecord,
  async (bytes) => (await readCopyRecord(registryOf(bytes))).record,
  { none: noCopy, some: { ...noCopy, term: 3, base: 2, revision: 1000, host: 'node-1' } },
);

const manifest = record<Manifest>(
  'manifest',
  encodeManifest,
  decodeManifest,
  {
    empty: emptyManifest,
    hole: {
      ...emptyManifest,
      ...{ version: 9, sizeBytes: 3_000_000 },
      pieces: [{ key: `file/${id}/7-9-0`, bytes: 2 ** 20, checksum: 77 }, null],
    },
    tenures: {
      ...emptyManifest,
      changes: 99,
      starts: [
        { epoch: 3, after: 0 },
        { epoch: 7, after: 90 },
      ],
    },
  },
  ({ sizeBytes, pieces }) =>
    pieces.length <= Math.ceil(sizeBytes / limits.pieceBytes) &&
    pieces.every((piece) => !piece || (piece.bytes > 0 && piece.bytes <= limits.pieceBytes)),
);

const undertakingSample: Undertaking = {
  ...{ folder: ino, name: 'monday', host, createdNs: 5n, root: 43 as Ino },
  ...{ volumes: [id, other], files: [] },
};
const undertaking = record(
  'undertaking',
  encodeUndertaking,
  async (bytes) => {
    const found = listUndertakings(registryOf(bytes, undertakingKey(ino, 'monday')));
    return (await found.next()).value as Undertaking;
  },
  { monday: undertakingSample },
);

const place = record(
  'place',
  encodePlace,
  async (bytes) => (await findPlace(registryOf(bytes), id, 'monday')) ?? assert.fail(),
  { place: { parent: ino, cookie: 5n << 8n } },
);

const descent = record(
  'descent',
  encodeRecord,
  async (bytes) => (await new SnapshotRecords(registryOf(bytes)).descentOf(id)) ?? assert.fail(),
  { clone: { parent: other, snapshot: 'monday' } },
);

const backReference = record(
  'back-reference',
  (of: Ino) => encodeRecord({ ino: of }),
  async (bytes) => (await new Namespace(registryOf(bytes), '').inoOf(id)) ?? assert.fail(),
  { reference: ino },
);

export const records: readonly Target[] = [
  ...[inode, entry, object, snapshot, hostRecord, vpool, copyRecord, manifest],
  ...[undertaking, place, descent, backReference],
];
