import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { KiB } from '../../../src/core/units.ts';
import { segmentKey } from '../../../src/format/segment-key.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import { findHead } from '../../../src/volume/recovery.ts';
import { smallSettings, VolumeWorld } from '../../support/volume-world.ts';

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const isCode = (code: Parameters<typeof isStorageError>[1]) => (error: unknown) =>
  isStorageError(error, code);

async function read(object: DataObject, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length);
  await object.read(offset, into);
  return into;
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('a volume in trouble', () => {
  test('makes writers wait when the backend is down, and goes on when it is back', async () => {
    const world = new VolumeWorld({ cutBytes: 64 * KiB });
    const volume = await world.create();
    let isDown = true;
    world.faults.choose = () => (isDown ? 'before' : 'none');
    const total = 6 * 1024 * KiB;
    let written = 0;
    const writer = (async () => {
      for (let at = 0; at < total; at += 64 * KiB) {
        await volume.write(at, filled(64 * KiB, at / (64 * KiB)));
        written = at + 64 * KiB;
      }
    })();
    await soon();
    await soon();
    assert.ok(written > 0 && written < total, `${written} bytes were taken`);
    assert.equal(volume.status().waiting, 'journal full');
    await volume.flush();
    isDown = false;
    await writer;
    await volume.sync();
    for (let at = 0; at < total; at += 64 * KiB)
      assert.deepEqual(await read(volume, at, 64 * KiB), filled(64 * KiB, at / (64 * KiB)));
    await volume.close();
  });

  test('makes writers wait for a checkpoint that is slow, so that memory has a bound', async () => {
    const world = new VolumeWorld({ cutBytes: 64 * KiB });
    world.isUncached = true;
    const volume = await world.create();
    const leafBytes = 1024 * KiB;
    const leaves = 200;
    for (let leaf = 0; leaf < leaves; leaf += 1)
      await volume.write(leaf * leafBytes, filled(4096, 1));
    await volume.sync();
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    world.faults.delay = async (operation) => (operation === 'get' ? held : undefined);
    const blocks = 8 * leaves;
    let written = 0;
    const writer = (async () => {
      for (; written < blocks; written += 1) {
        const at = (written % leaves) * leafBytes + Math.floor(written / leaves) * 4096;
        await volume.write(at, filled(4096, 2));
      }
    })();
    for (let turn = 0; turn < 100 && volume.status().waiting === undefined; turn += 1) await soon();
    assert.equal(volume.status().waiting, 'journal full');
    release();
    await writer;
    await volume.sync();
    for (let leaf = 0; leaf < leaves; leaf += 1)
      assert.deepEqual(await read(volume, leaf * leafBytes, 8 * 4096), filled(8 * 4096, 2));
    await volume.close();
  });

  test('waits for a backend that is full, and loses nothing', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    let isFull = true;
    world.faults.choose = (operation) => (isFull && operation === 'put' ? 'full' : 'none');
    await volume.write(0, filled(64 * KiB, 1));
    const synced = volume.sync();
    await soon();
    isFull = false;
    await synced;
    assert.deepEqual(await read(volume, 0, 64 * KiB), filled(64 * KiB, 1));
    await volume.close();
  });

  test('makes writers wait when the SSD is full, and corrupts nothing', async () => {
    const world = new VolumeWorld({ destageDelayMs: 60_000, cutBytes: 1e9 });
    const volume = await world.create();
    world.disk.faults.freeBytes = 300 * KiB;
    const writes = Array.from({ length: 12 }, (_, index) =>
      volume.write(index * 64 * KiB, filled(64 * KiB, index + 1)),
    );
    await soon();
    assert.equal(volume.status().waiting, 'disk full');
    world.disk.faults.freeBytes = Number.POSITIVE_INFINITY;
    await Promise.all(writes);
    await world.kill(volume);
    const again = await world.open();
    for (let index = 0; index < 12; index += 1)
      assert.deepEqual(await read(again, index * 64 * KiB, 64 * KiB), filled(64 * KiB, index + 1));
    await again.close();
  });

  test('gives the room of a full SSD back to its writers as it destages', {
    timeout: 20_000,
  }, async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    const { fileBytes } = smallSettings.journal;
    world.disk.faults.freeBytes = fileBytes + 4 * KiB;
    for (let index = 0; index < 16; index += 1)
      await volume.write(index * 64 * KiB, filled(64 * KiB, index + 1));
    assert.ok(
      world.log.lines.some(({ message }) => message.startsWith('disk of the journal is full')),
    );
    for (let index = 0; index < 16; index += 1)
      assert.deepEqual(await read(volume, index * 64 * KiB, 64 * KiB), filled(64 * KiB, index + 1));
    await volume.close();
  });

  test('takes no more changes after a failed fdatasync, and still reads', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await volume.write(0, filled(4096, 1));
    world.disk.faults.failingSyncs = 1;
    await assert.rejects(volume.flush(), isCode('failed'));
    await assert.rejects(async () => volume.flush(), isCode('failed'));
    await assert.rejects(async () => volume.write(0, filled(4096, 2)), isCode('failed'));
    assert.deepEqual(await read(volume, 0, 4096), filled(4096, 1));
    assert.ok(world.log.lines.some(({ level }) => level === 'error'));
    await volume.close();
  });

  test('reports a damaged block of a segment as corrupt, and serves all others', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    for (let block = 0; block < 16; block += 1)
      await volume.write(block * 4096, filled(4096, block));
    await volume.sync();
    await volume.close();
    // The cache has the segment too: it is lost with the SSD.
    world.disk.removeFolder('/cache');
    const blobs = world.backend.blobs(world.bucket);
    for (const [key, body] of blobs) {
      const found = Buffer.from(body).indexOf(Buffer.alloc(4096, 5));
      if (!key.startsWith('segment/') || found === -1) continue;
      body[found + 100] = 0xee;
    }
    const again = await world.open();
    await assert.rejects(async () => again.read(5 * 4096, new Uint8Array(4096)), isCode('corrupt'));
    for (let block = 0; block < 16; block += 1)
      if (block !== 5) assert.deepEqual(await read(again, block * 4096, 4096), filled(4096, block));
    assert.ok(world.log.lines.some(({ message }) => message === 'data is damaged'));
    await again.write(5 * 4096, filled(4096, 55));
    assert.deepEqual(await read(again, 5 * 4096, 4096), filled(4096, 55));
    await again.sync();
    await again.close();
  });

  test('is opened although a segment that it begins with is damaged on the way', async () => {
    const world = new VolumeWorld({ checkpointDelayMs: 3_600_000 });
    const volume = await world.create();
    await volume.write(0, filled(32 * KiB, 9));
    await volume.care.snapshot('kept', 1n);
    await volume.abandon();
    const head = await findHead(world.records.heads('volume'), world.id, world.checksum);
    const [segment] = head?.tail ?? [];
    assert.ok(segment);
    const body = world.backend.blobs(world.bucket).get(segmentKey(segment.epoch, segment.first));
    assert.ok(body);
    const right = body.slice();
    for (const damagedGets of [1, 2, 3]) {
      let gets = 0;
      world.faults.delay = async (operation) => {
        if (operation !== 'get') return;
        gets += 1;
        body.set(right);
        if (gets <= damagedGets) body[100] = (right[100] as number) ^ 1;
      };
      const opening = world.open();
      if (damagedGets === 3) await assert.rejects(opening, isCode('corrupt'));
      else await (await opening).abandon();
    }
  });

  test('takes a damaged cache for a miss', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await volume.write(0, filled(32 * KiB, 9));
    await volume.sync();
    for (let offset = 0; offset < 64 * KiB; offset += 512)
      world.disk.flip('/cache/cache.data', offset);
    assert.deepEqual(await read(volume, 0, 32 * KiB), filled(32 * KiB, 9));
    assert.ok(world.cache.statistics().damagedLines > 0);
    await volume.close();
  });

  test('serves all but the lost blocks when a page of its map is gone', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    // Two leaves under one root.
    await volume.write(0, filled(4096, 1));
    await volume.write(1024 * KiB, filled(4096, 2));
    await volume.sync();
    await volume.close();
    world.disk.removeFolder('/cache');
    damageLeafOf(world, 0);
    const again = await world.open();
    await assert.rejects(async () => again.read(0, new Uint8Array(4096)), isCode('corrupt'));
    assert.deepEqual(await read(again, 1024 * KiB, 4096), filled(4096, 2));
    await again.write(4096, filled(4096, 3));
    await again.sync();
    assert.deepEqual(await read(again, 4096, 4096), filled(4096, 3));
    await assert.rejects(async () => again.read(0, new Uint8Array(4096)), isCode('corrupt'));
    assert.deepEqual(await read(again, 1024 * KiB, 4096), filled(4096, 2));
    await again.write(0, filled(4096, 4));
    assert.deepEqual(await read(again, 0, 4096), filled(4096, 4));
    await again.close();
  });

  test('is fenced once a later tenure has begun', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await volume.write(0, filled(4096, 1));
    await world.records.claim(world.id, (await world.records.get(world.id)).owner);
    await assert.rejects(volume.sync(), isCode('fenced'));
    while (volume.status().state !== 'failed') await soon();
    await assert.rejects(async () => volume.write(0, filled(4096, 2)), isCode('fenced'));
    await assert.rejects(volume.flush(), isCode('fenced'));
    await volume.abandon();
  });

  test('gives the space of overwritten segments back', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    for (let round = 0; round < 12; round += 1) {
      await volume.write(0, filled(512 * KiB, round));
      await volume.sync();
    }
    // Dead segments are deleted in the background, after the checkpoint that found them.
    const stored = () =>
      [...world.backend.blobs(world.bucket).values()].reduce((sum, body) => sum + body.length, 0);
    for (let tries = 0; tries < 250 && stored() >= 2 * 512 * KiB; tries += 1) await soon();
    const bytes = stored();
    await volume.close();
    assert.ok(bytes < 2 * 512 * KiB, `${bytes} bytes are kept for ${512 * KiB}`);
    const again = await world.open();
    assert.deepEqual(await read(again, 0, 512 * KiB), filled(512 * KiB, 11));
    await again.close();
  });

  test('keeps its cache warm over a restart', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await volume.write(0, filled(256 * KiB, 7));
    await volume.sync();
    await volume.close();
    const again = await world.open();
    const before = world.faults.bytesRead;
    assert.deepEqual(await read(again, 0, 256 * KiB), filled(256 * KiB, 7));
    assert.equal(world.faults.bytesRead, before);
    await again.close();
  });
});

/** Flips a byte of the leaf page that maps `block`; its magic and first block tell it. */
function damageLeafOf(world: VolumeWorld, block: number): void {
  const head = Buffer.alloc(16);
  head.write('WMAP', 0);
  head.writeUInt8(1, 4);
  head.writeUInt8(0, 5);
  head.writeUInt16LE(1, 6);
  head.writeBigUInt64LE(BigInt(block), 8);
  let count = 0;
  for (const body of world.backend.blobs(world.bucket).values()) {
    const at = Buffer.from(body).indexOf(head);
    if (at === -1) continue;
    body[at + 60] = (body[at + 60] as number) ^ 1;
    count += 1;
  }
  assert.ok(count > 0, 'the leaf was found');
}
