/** A scrub of a vPool in which something was damaged on purpose: it is found and named, and no more. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { noFaults } from '../../../src/backend/with-faults.ts';
import type { ObjectId } from '../../../src/core/units.ts';
import { KiB, MiB, objectId } from '../../../src/core/units.ts';
import { decodeHead } from '../../../src/format/head.ts';
import { placeWords } from '../../../src/format/place.ts';
import { segmentKey } from '../../../src/format/segment-key.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import type { Finding } from '../../../src/ports/scrub.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import { inoOfKey, keys } from '../../../src/registry/namespace.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import type { BlockMap } from '../../../src/volume/block-map.ts';
import { ScrubWorld } from '../../support/scrub-world.ts';

const block = 4096;
const filled = (bytes: number, value: number) => new Uint8Array(bytes).fill(value);
const newId = objectId('f'.repeat(32));

/** A disk with two snapshots, of which the last is what it is now; a clone; a file of two pieces. */
class Settled implements AsyncDisposable {
  readonly world: ScrubWorld;
  disk = newId;
  clone = newId;
  note = newId;

  constructor(world: ScrubWorld) {
    this.world = world;
  }

  static async make(): Promise<Settled> {
    const settled = new Settled(await ScrubWorld.open());
    const { host } = settled.world;
    await host.write('/d.raw', 0, filled(100 * KiB, 1));
    await host.sync('/d.raw');
    await host.snapshots.create('/d.raw', 's1');
    await host.write('/d.raw', 40 * KiB, filled(40 * KiB, 2));
    await host.sync('/d.raw');
    await host.snapshots.create('/d.raw', 's2');
    await host.snapshots.clone('/d.raw', 's1', '/c.raw');
    await host.write('/c.raw', 0, filled(20 * KiB, 3));
    await host.sync('/c.raw');
    await host.write('/note', 0, filled(MiB + 100, 4));
    await host.sync('/note');
    settled.disk = await host.idOf('/d.raw');
    settled.clone = await host.idOf('/c.raw');
    settled.note = await host.idOf('/note');
    return settled;
  }

  get registry() {
    return this.world.host.host.registry;
  }

  async view<T>(name: string, look: (map: BlockMap) => T | Promise<T>): Promise<T> {
    const { snapshots, volumes } = this.world.host.host;
    const view = await volumes.view(this.disk, await snapshots.get(this.disk, name));
    try {
      return await look(view.map);
    } finally {
      await view.close();
    }
  }

  /** Where a block of the disk lies, as a snapshot has it. */
  placeOf(name: string, number: number): Promise<Uint32Array> {
    return this.view(name, async (map) => {
      const place = new Uint32Array(placeWords);
      for (let kind = map.find(number, place); kind !== 'data'; kind = map.find(number, place))
        await kind;
      return place;
    });
  }

  /** What a disk reads as. */
  async contentOf(path: string): Promise<Uint8Array> {
    const { host } = this.world;
    const ino = await host.inoOf(path);
    await host.fileSystem.open(ino);
    const bytes = new Uint8Array(100 * KiB);
    await host.fileSystem.read(ino, 0, bytes);
    await host.fileSystem.release(ino);
    return bytes;
  }

  flip(id: ObjectId, key: string, offset: number): void {
    const blob = this.world.bucketOf(id).get(key) as Uint8Array;
    blob[offset] = (blob[offset] as number) ^ 1;
  }

  flipPlace(place: Uint32Array, within = 9): string {
    const key = keyOf(place);
    this.flip(this.disk, key, (place[2] as number) + within);
    return key;
  }

  async head() {
    const found = await this.world.world.records.findHead(this.disk, 'volume');
    return decodeHead(found?.head as Uint8Array, tableChecksum());
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    await this.registry.transact({ compares: [], writes: [{ key, put: value }] });
  }

  async drop(key: string): Promise<void> {
    await this.registry.transact({ compares: [], writes: [{ key, delete: true }] });
  }

  /** Deletes and gives back what the registry has under a prefix. */
  async dropAll(prefix: string): Promise<readonly string[]> {
    const { entries } = await this.registry.range(prefixRange(prefix));
    for (const { key } of entries) await this.drop(key);
    return entries.map(({ key }) => key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }
}

const keyOf = (place: Uint32Array) => segmentKey(place[0] as number, place[1] as number);

/** The only one. */
function one(findings: readonly Finding[]): Finding {
  assert.equal(findings.length, 1, JSON.stringify(findings, undefined, 1));
  return findings[0] as Finding;
}

describe('a scrub', () => {
  test('finds nothing where nothing is wrong, and leaves nothing behind', async () => {
    await using vpool = await Settled.make();
    const before = await vpool.registry.range({ from: '', to: '\u0100' });
    assert.deepEqual(await vpool.world.found(), []);
    const after = await vpool.registry.range({ from: '', to: '\u0100' });
    assert.deepEqual(after.entries, before.entries);
    const { readBytes, totalBytes } = await vpool.world.scrub('repair');
    assert.ok(readBytes > MiB + 160 * KiB, String(readBytes));
    assert.ok(totalBytes !== undefined && totalBytes > MiB);
  });

  test('names the bytes that a flipped bit in a data block takes, in disk and snapshots', async () => {
    await using vpool = await Settled.make();
    const place = await vpool.placeOf('s2', 12);
    const key = vpool.flipPlace(place);
    const findings = await vpool.world.found();
    assert.deepEqual(
      findings.map(({ kind, what, path, snapshot, ranges }) => [
        kind,
        what,
        path,
        snapshot,
        ranges,
      ]),
      [undefined, 's2'].map((snapshot) => [
        ...['damage', `${key} has damaged blocks`, '/d.raw', snapshot],
        [{ offset: 12 * block, bytes: block }],
      ]),
    );
    assert.match(findings[0]?.advice ?? '', /as it was before, it is in snapshot s1/);
  });

  test('tells of a snapshot alone what the disk has written over since', async () => {
    await using vpool = await Settled.make();
    vpool.flipPlace(await vpool.placeOf('s1', 12));
    const { path, snapshot, ranges } = one(await vpool.world.found());
    assert.deepEqual([path, snapshot], ['/d.raw', 's1']);
    assert.deepEqual(ranges, [{ offset: 12 * block, bytes: block }]);
  });

  test('finds a segment that is missing, and one that is cut short', async () => {
    for (const how of ['is missing', 'is cut short'] as const) {
      await using vpool = await Settled.make();
      const place = await vpool.placeOf('s2', 19);
      const key = keyOf(place);
      const bucket = vpool.world.bucketOf(vpool.disk);
      if (how === 'is missing') bucket.delete(key);
      else bucket.set(key, (bucket.get(key) as Uint8Array).slice(0, (place[2] as number) + 100));
      const findings = await vpool.world.found();
      const head = findings.find(({ snapshot }) => snapshot === undefined);
      assert.equal(head?.what, `${key} ${how}`);
      const touched = head.ranges?.some(
        ({ offset, bytes }) => offset <= 19 * block && 19 * block < offset + bytes,
      );
      assert.ok(touched, JSON.stringify(head.ranges));
      assert.ok(findings.every(({ kind, path }) => kind === 'damage' && path === '/d.raw'));
    }
  });

  test('finds a damaged index of which nothing is lost', async () => {
    await using vpool = await Settled.make();
    const key = keyOf(await vpool.placeOf('s2', 12));
    vpool.flip(vpool.disk, key, 100);
    const { kind, what, ranges } = one(await vpool.world.found());
    assert.equal(kind, 'damage');
    assert.match(what, new RegExp(`^${key} has a damaged index; all that is needed of it can`));
    assert.equal(ranges, undefined);
  });

  test('finds a segment that holds something else than its places say', async () => {
    await using vpool = await Settled.make();
    const place = await vpool.placeOf('s2', 12);
    const bucket = vpool.world.bucketOf(vpool.disk);
    const other = keyOf(await vpool.placeOf('s2', 0));
    assert.notEqual(other, keyOf(place));
    bucket.set(keyOf(place), bucket.get(other) as Uint8Array);
    const findings = await vpool.world.found();
    assert.ok(findings.some(({ ranges }) => ranges?.some(({ offset }) => offset <= 12 * block)));
  });

  test('finds a damaged page of the map, and takes nothing for an orphan then', async () => {
    await using vpool = await Settled.make();
    const { root } = await vpool.head();
    vpool.flipPlace(root, 60);
    const findings = await vpool.world.found('repair');
    const head = findings.find(({ snapshot }) => snapshot === undefined);
    assert.match(head?.what ?? '', /^pages of the block map can't be read: a chunk of segment/);
    assert.deepEqual(head?.ranges, [{ offset: 0, bytes: 100 * KiB }]);
    assert.ok(findings.every(({ kind }) => kind === 'damage'));
  });

  test('finds a damaged table of live bytes, and has it counted anew', async () => {
    await using vpool = await Settled.make();
    const { usage } = await vpool.head();
    vpool.flipPlace(usage.slice(0, placeWords), 20);
    const { kind, what } = one(await vpool.world.found());
    assert.deepEqual(
      [kind, what.slice(0, 40)],
      ['damage', 'table of live bytes is not complete: not'],
    );
    assert.equal(one(await vpool.world.found('repair')).isRepaired, true);
    assert.deepEqual(await vpool.world.found(), []);
  });

  test('finds a head of a snapshot that is damaged', async () => {
    await using vpool = await Settled.make();
    const key = `s${vpool.disk}s1`;
    const record = JSON.parse(
      Buffer.from((await vpool.registry.get(key))?.value ?? '').toString(),
    ) as { head: string };
    const head = Buffer.from(record.head, 'base64');
    head[30] = (head[30] as number) ^ 1;
    await vpool.put(key, Buffer.from(JSON.stringify({ ...record, head: head.toString('base64') })));
    const { kind, snapshot, what } = one(await vpool.world.found('repair'));
    assert.deepEqual([kind, snapshot], ['damage', 's1']);
    assert.match(what, /^head is damaged in the registry/);
  });

  test('finds pieces of files that are damaged or missing', async () => {
    await using vpool = await Settled.make();
    const [first, second] = [...vpool.world.pieces.keys()].sort() as [string, string];
    const piece = vpool.world.pieces.get(first) as Uint8Array;
    piece[7] = 0;
    const damaged = one(await vpool.world.found());
    assert.deepEqual([damaged.path, damaged.ranges], ['/note', [{ offset: 0, bytes: MiB }]]);
    vpool.world.pieces.delete(second);
    const both = one(await vpool.world.found('repair'));
    assert.equal(both.bytes, MiB + 100);
    assert.equal(both.isRepaired, undefined);
  });

  test('misses no pieces of a file that is being removed', async () => {
    await using vpool = await Settled.make();
    const [piece = ''] = vpool.world.pieces.keys();
    vpool.world.pieces.clear();
    await vpool.put(`g${piece.split('/')[1]}`, encodeRecord({}));
    assert.deepEqual(await vpool.world.found(), []);
  });

  test('finds a name that leads nowhere, and a wrong count of links', async () => {
    await using vpool = await Settled.make();
    const ino = await vpool.world.host.inoOf('/note');
    await vpool.drop(keys.inode(ino));
    const whats = (await vpool.world.found()).map(({ kind, what }) => `${kind}: ${what}`);
    assert.deepEqual(whats.sort(), [
      'damage: name "note" in folder 1 leads nowhere',
      `waste: back reference to inode ${ino}, which is not the object's`,
    ]);

    await using other = await Settled.make();
    const inode = keys.inode(await other.world.host.inoOf('/note'));
    const text = Buffer.from((await other.registry.get(inode))?.value ?? '').toString();
    await other.put(inode, Buffer.from(text.replace('"linkCount":1', '"linkCount":2')));
    const { what, path } = one(await other.world.found());
    assert.equal(path, '/note');
    assert.match(what, /counts 2 links and has 1 names/);
  });

  test('finds a record of an object that is missing, and deletes nothing of it', async () => {
    await using vpool = await Settled.make();
    const ids = [vpool.note, vpool.disk];
    for (const id of ids) await vpool.drop(`o${id}`);
    const blobs = vpool.world.bucketOf(vpool.disk).size + vpool.world.pieces.size;
    const findings = await vpool.world.found('repair');
    const missing = findings.filter(({ what }) => what === 'object record is missing');
    assert.deepEqual(new Set(missing.map(({ path }) => path)), new Set(['/d.raw', '/note']));
    assert.equal(findings.length, 2);
    assert.equal(vpool.world.bucketOf(vpool.disk).size + vpool.world.pieces.size, blobs);
  });

  test('finds a clone whose snapshot is gone, and one that its source does not know', async () => {
    await using vpool = await Settled.make();
    await vpool.drop(`s${vpool.disk}s1`);
    const { path, what } = one(await vpool.world.found('repair'));
    assert.equal(path, '/c.raw');
    assert.match(what, /^is a clone of snapshot s1 of [0-9a-f]{32}, which is gone$/);

    await using other = await Settled.make();
    await other.dropAll(`c${other.disk}`);
    const { isRepaired } = one(await other.world.found('repair'));
    assert.equal(isRepaired, true);
    assert.deepEqual(await other.world.found(), []);
    await assert.rejects(other.world.host.snapshots.delete('/d.raw', 's1'), { code: 'busy' });
  });

  test('takes away notes that lead nowhere', async () => {
    await using vpool = await Settled.make();
    const attribute = `x${keys.inode(inoOfKey('\0\0\0\0\0\0\x77\x77')).slice(1)}user.a`;
    const stray = [
      attribute,
      keys.orphan(inoOfKey('\0\0\0\0\0\0\x77\x77')),
      `hf${newId}`,
      `c${vpool.disk}${newId}s1`,
    ];
    for (const key of stray) await vpool.put(key, encodeRecord({ host: 'a' }));
    const kept = await vpool.registry.get(`s${vpool.disk}s1`);
    await vpool.put(`s${vpool.disk}.clone-${newId}`, kept?.value as Uint8Array);
    const findings = await vpool.world.found();
    const waste = findings.filter(({ kind }) => kind === 'waste');
    assert.equal(waste.length, stray.length + 1, JSON.stringify(findings));
    await vpool.world.found('repair');
    for (const key of stray) assert.equal(await vpool.registry.get(key), undefined, key);
    assert.deepEqual(await vpool.world.found(), []);
  });

  test('tells nothing of a copy of a head that its successor has not taken along yet', async () => {
    await using vpool = await Settled.make();
    const { world } = vpool;
    const { faults, clock } = world.world;
    const copies = () =>
      [...world.bucketOf(vpool.disk).keys()].filter((key) => key.startsWith('head/')).length;
    const held = Promise.withResolvers<void>();
    faults.delay = (operation, key) =>
      operation === 'delete' && key.startsWith('head/') ? held.promise : Promise.resolve();
    await world.host.write('/d.raw', 0, filled(8 * KiB, 9));
    await world.host.sync('/d.raw');
    while (copies() < 2) await clock.sleep(1);
    assert.deepEqual(await world.found(), []);
    faults.choose = (operation) => (operation === 'delete' ? 'before' : 'none');
    await world.restart(0);
    held.resolve();
    faults.choose = () => 'none';
    assert.deepEqual(await world.found(), []);
    assert.equal(copies(), 2);
    assert.deepEqual(await world.found('repair'), []);
    while (copies() > 1) await clock.sleep(1);
  });

  test('takes away orphans: segments, pieces, buckets and objects', async () => {
    await using vpool = await Settled.make();
    const { world } = vpool;
    const { backend } = world.world;
    await world.host.snapshots.rollBack('/d.raw', 's2', { force: true });
    await world.host.sync('/d.raw');
    const bucket = world.bucketOf(vpool.disk);
    const before = [...bucket.keys()].sort();
    const record = await world.world.records.get(vpool.disk);
    assert.ok(record.epoch > 1, 'there is a tenure that has ended');
    bucket.set(segmentKey(1, 77), filled(10, 1));
    bucket.set(segmentKey(record.epoch, 77_777), filled(10, 1));
    bucket.set('segment/ffffffff/00000001', filled(10, 1));
    bucket.set('notes/mine.txt', filled(10, 1));
    world.pieces.set(`file/${newId}/1-1-0`, filled(10, 1));
    await backend.createBucket(`volume-${newId}`);
    await world.world.records.create(objectId('e'.repeat(32)), 'file', world.host.host.id);
    const kinds = (findings: readonly Finding[]) =>
      findings.map(({ kind, what }) => `${kind}: ${what.replace(/[0-9a-f]{32}/g, 'ID')}`).sort();
    const found = [
      'foreign: 1 blobs of unknown names: notes/mine.txt',
      'waste: 1 blobs that no head and no snapshot reaches: segment/00000001/0000004d',
      'waste: 1 pieces that no file names: file/ID/1-1-0',
      'waste: bucket volume-ID is of no object',
      'waste: object has no name',
    ];
    assert.deepEqual(kinds(await world.found()), found);
    assert.deepEqual(kinds(await world.found('repair')), found);
    assert.deepEqual(kinds(await world.found()), found.slice(0, 1));
    const left = [segmentKey(record.epoch, 77_777), 'segment/ffffffff/00000001', 'notes/mine.txt'];
    assert.deepEqual([...bucket.keys()].sort(), [...before, ...left].sort());
    assert.deepEqual(await backend.listBuckets({ prefix: `volume-${newId}` }), []);
    assert.equal(await world.world.records.find(objectId('e'.repeat(32))), undefined);
  });

  test('goes on where a disk is removed whose orphans it has seen', async () => {
    await using vpool = await Settled.make();
    const { world } = vpool;
    await world.host.write('/gone.raw', 0, filled(8 * KiB, 1));
    await world.host.sync('/gone.raw');
    await world.restart(0);
    await world.host.write('/gone.raw', 0, filled(8 * KiB, 2));
    await world.host.sync('/gone.raw');
    const id = await world.host.idOf('/gone.raw');
    const orphan = segmentKey(1, 77);
    world.bucketOf(id).set(orphan, filled(10, 1));
    const faults = noFaults();
    faults.delay = async (operation, key) => {
      if (operation !== 'list' || key !== orphan) return;
      await world.host.remove('/gone.raw');
      while ((await world.world.backend.listBuckets({ prefix: `volume-${id}` })).length > 0)
        await world.world.clock.sleep(1);
    };
    const { state, why, findings } = await world.scrub('look', world.scrubber(undefined, faults));
    assert.deepEqual([state, why, findings], ['done', undefined, []]);
  });

  test('is one at a time in the whole vPool', async () => {
    await using vpool = await Settled.make();
    const [mine, other] = [vpool.world.scrubber(), vpool.world.scrubber()];
    const slow = { isRepair: false, bytesPerSecond: 1 };
    await mine.start(slow);
    await assert.rejects(mine.start(slow), { code: 'busy', message: /goes on here already/ });
    await assert.rejects(other.start(slow), {
      code: 'busy',
      message: /goes on already, at host a/,
    });
    await mine.stop();
    assert.equal(mine.status().state, 'stopped');
    assert.deepEqual(await vpool.registry.get('q'), undefined);
    const pins = await vpool.registry.range(prefixRange(`s${vpool.disk}.scrub`));
    assert.deepEqual(pins.entries, []);
    await other.start({ isRepair: false, bytesPerSecond: 1e12 });
    await vpool.world.ended(other);
    assert.equal(other.status().state, 'done');
  });

  test('can be broken off in the middle of a repair, at every deletion', async () => {
    for (let last = 0, isWhole = false; !isWhole; last += 1) {
      await using vpool = await Settled.make();
      const { world } = vpool;
      const bucket = world.bucketOf(vpool.disk);
      await world.host.snapshots.rollBack('/d.raw', 's2', { force: true });
      const whole = async () => (await vpool.contentOf('/d.raw')).join();
      const before = await whole();
      bucket.set(segmentKey(1, 77), filled(10, 1));
      world.pieces.set(`file/${newId}/1-1-0`, filled(10, 1));
      await world.world.backend.createBucket(`volume-${newId}`);
      await world.world.records.create(objectId('e'.repeat(32)), 'file', world.host.host.id);
      const faults = noFaults();
      let deletions = 0;
      faults.choose = (operation) => {
        if (operation !== 'delete' && operation !== 'bucket') return 'none';
        deletions += 1;
        return deletions === last + 1 ? (last % 2 === 0 ? 'before' : 'after') : 'none';
      };
      const { state } = await world.scrub('repair', world.scrubber(world.host, faults));
      isWhole = deletions <= last;
      assert.equal(state, isWhole ? 'done' : 'failed');
      await world.found('repair');
      assert.deepEqual(await world.found(), []);
      assert.equal(await whole(), before);
    }
  });
});
