/** A registry that is put together from buckets: what is found, what is missing, what is refused. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { fileName, hostId, ino as toIno, KiB, objectId } from '../../../src/core/units.ts';
import type { RecoveryReport } from '../../../src/daemon/recovery/recover-vpool.ts';
import { recoverVpool } from '../../../src/daemon/recovery/recover-vpool.ts';
import { emptyManifest, encodeManifest, pieceKey } from '../../../src/file/manifest.ts';
import { decodeHead } from '../../../src/format/head.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Registry } from '../../../src/ports/registry.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { isCopied } from '../../../src/registry/copy/copied-keys.ts';
import type { Inode } from '../../../src/registry/namespace.ts';
import { keys, Namespace, putInode } from '../../../src/registry/namespace.ts';
import { ObjectRecords, putObject } from '../../../src/registry/object-records.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import { findVpool } from '../../../src/registry/vpool-record.ts';
import { CopyWorld } from '../../support/copy-world.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const filesBucket = 'wharf-demo-files';
const root = toIno(1);
const idOf = (number: number) => objectId(number.toString(16).padStart(32, '0'));
const bucketOf = (number: number) => `wharf-demo-${idOf(number)}`;

/** A vPool with a copy of its registry, as a disaster leaves it. */
class LostVpool {
  readonly copied = new CopyWorld();
  readonly backend = this.copied.backend;
  #ino = 1;

  async open(): Promise<void> {
    await this.copied.open();
    await this.backend.createBucket(filesBucket);
    await this.#put(putInode(this.#inode(root, { type: 'directory', linkCount: 2, parent: root })));
    await this.#put({ key: keys.nextIno, put: encodeRecord({ next: 1000 }) });
  }

  async addFolder(name: string): Promise<void> {
    await this.#name(name, { type: 'directory', linkCount: 2, parent: root });
  }

  /** A small file of one piece. */
  async addFile(name: string, number: number): Promise<void> {
    const [object, key] = [idOf(number), pieceKey(idOf(number), 3, 1, 0)];
    await this.#name(name, { type: 'file', object, kind: 'file', sizeBytes: 10 });
    const pieces = [{ key, bytes: 10, checksum: 1 }];
    const manifest = encodeManifest({ ...emptyManifest, version: 1, sizeBytes: 10, pieces });
    const state = { kind: 'file', owner: hostId('a'), epoch: 3, tail: 'backend' } as const;
    await this.#put(...putObject(object, { ...state, isPinned: false }, manifest));
    this.backend.blobs(filesBucket).set(key, new Uint8Array(10));
  }

  /** `name`: undefined for one that was made behind the last write-out. */
  async addVolume(name: string | undefined, number: number): Promise<void> {
    await this.#fillBucket(number);
    if (name === undefined) return;
    const object = idOf(number);
    await this.#name(name, { type: 'file', object, kind: 'volume', sizeBytes: 1 });
    const state = { kind: 'volume', owner: hostId('b'), epoch: 2, tail: 'owner' } as const;
    await this.#put(...putObject(object, { ...state, isPinned: true }));
  }

  async lose(): Promise<void> {
    const { copier } = this.copied.join('a');
    await this.copied.during(copier.close());
  }

  async #fillBucket(number: number): Promise<void> {
    const world = new VolumeWorld({}, number);
    const volume = await world.create();
    await volume.write(0, new Uint8Array(8 * KiB).fill(number));
    await volume.sync();
    await volume.close();
    await this.backend.createBucket(bucketOf(number));
    for (const [key, blob] of world.backend.blobs(world.bucket))
      this.backend.blobs(bucketOf(number)).set(key, blob);
  }

  async #name(name: string, fields: Partial<Inode>): Promise<void> {
    this.#ino += 1;
    const inode = this.#inode(toIno(this.#ino), fields);
    const namespace = new Namespace(this.copied.registry, this.copied.salt);
    const cookie = await namespace.freeCookie(root, fileName(name));
    const entry = namespace.putEntry(root, cookie, fileName(name), inode.ino, inode.type);
    await this.#put(putInode(inode), entry);
    if (inode.object)
      await this.#put({
        key: keys.backReference(inode.object),
        put: encodeRecord({ ino: this.#ino }),
      });
  }

  #inode(ino: Inode['ino'], fields: Partial<Inode>): Inode {
    const times = { accessedNs: 1n, modifiedNs: 1n, changedNs: 1n };
    const plain = { mode: 0o644, linkCount: 1, uid: 0, gid: 0, rdev: 0, sizeBytes: 0 };
    return { ino, type: 'file', ...plain, allocatedBytes: 0, ...times, ...fields };
  }

  async #put(
    ...writes: readonly { key: string; put: Uint8Array }[] | ReturnType<typeof putObject>
  ) {
    await this.copied.registry.transact({ compares: [], writes: [...writes] });
  }
}

class Recovery {
  readonly clock = new SimulatedClock();
  readonly store = new MemoryStore(this.clock);
  readonly registry = new MemoryRegistry(this.clock, this.store);
  readonly #vpool: LostVpool;

  constructor(vpool: LostVpool) {
    this.#vpool = vpool;
  }

  async run(registry: Registry = this.registry): Promise<RecoveryReport> {
    const { backend, copied } = this.#vpool;
    const { signal } = new AbortController();
    const deps = { registry, backend, checksum: copied.checksum, clock: this.clock, signal };
    let isDone = false;
    const running = recoverVpool({ ...deps, onProgress() {} }, 'demo').finally(() => {
      isDone = true;
    });
    running.catch(() => {});
    while (!isDone) await this.clock.advance(10);
    return running;
  }

  /** All that a daemon would go by. */
  async state(): Promise<Record<string, string>> {
    const { entries } = await this.registry.range({ from: '', to: '\u0100' });
    const kept = entries.filter(({ key }) => isCopied(key) || key.startsWith('hv'));
    // Times of what was named anew differ.
    const text = (value: Uint8Array) =>
      Buffer.from(value)
        .toString('latin1')
        .replace(/"(at|mt|ct)":"\d+"/g, '');
    return Object.fromEntries(kept.map(({ key, value }) => [key, text(value)]));
  }
}

async function lostVpool(): Promise<LostVpool> {
  const vpool = new LostVpool();
  await vpool.open();
  for (let number = 0; number < 150; number += 1) await vpool.addFolder(`folder ${number}`);
  await vpool.addFile('note', 100);
  await vpool.addVolume('disk.raw', 1);
  await vpool.addVolume(undefined, 2);
  return vpool;
}

describe('a vPool that is recovered', () => {
  test('has its names, its volumes and what had no name', async () => {
    const vpool = await lostVpool();
    await vpool.lose();
    const recovery = new Recovery(vpool);
    const { names, volumes, files, recovered, losses } = await recovery.run();
    assert.deepEqual([names, volumes, files, losses], [154, 2, 1, []]);
    assert.deepEqual(recovered, [`/recovered/${idOf(2)}.raw`]);
    const { registry } = recovery;
    const records = new ObjectRecords(registry);
    const { owner, epoch, tail, isPinned } = await records.get(idOf(1));
    assert.deepEqual([owner, tail, isPinned], ['b', 'backend', true]);
    // Beyond all that a host may have begun without a trace.
    assert.ok(epoch > 1000);
    assert.ok((await records.get(idOf(100))).epoch > 1000);
    assert.equal((await records.get(idOf(2))).owner, 'recovered');
    const head = await records.heads('volume').loadHead(idOf(1));
    assert.equal(decodeHead(head ?? new Uint8Array(0), vpool.copied.checksum).volumeBytes, 8192);
    const vpoolRecord = await findVpool(registry, 'demo');
    const namespace = new Namespace(registry, vpoolRecord?.salt ?? '');
    const found = await namespace.findEntry(root, fileName('disk.raw'));
    assert.equal((await namespace.inode(found?.record.ino ?? root)).record.sizeBytes, 8192);
    assert.equal((await namespace.inode(root)).record.linkCount, 3);
  });

  test('knows a volume that has no name any more, as clones may read from it', async () => {
    const vpool = await lostVpool();
    await vpool.addVolume('outlived.raw', 6);
    const note = { key: keys.garbage(idOf(6)), put: encodeRecord({}) };
    await vpool.copied.registry.transact({ compares: [], writes: [note] });
    await vpool.lose();
    const recovery = new Recovery(vpool);
    const { volumes, losses, recovered } = await recovery.run();
    assert.deepEqual([volumes, losses, recovered.length], [2, [], 1]);
    const records = new ObjectRecords(recovery.registry);
    assert.ok((await records.get(idOf(6))).epoch > 1000);
    const head = await records.heads('volume').loadHead(idOf(6));
    assert.equal(decodeHead(head ?? new Uint8Array(0), vpool.copied.checksum).volumeBytes, 8192);
  });

  test('is the same however often that was begun and cut short', async () => {
    const vpool = await lostVpool();
    await vpool.lose();
    const whole = new Recovery(vpool);
    await whole.run();
    const again = new Recovery(vpool);
    for (let done = 0; ; done += 1) {
      const own = new MemoryRegistry(again.clock, again.store);
      const report = await again.run(dyingAfter(own, done)).catch((error: Error) => {
        assert.match(error.message, /killed/);
      });
      await own.close();
      if (report) break;
      assert.ok(done < 100);
      if (done > 0) await assert.rejects(findVpool(again.registry, 'demo'), /in part/);
    }
    assert.deepEqual(await again.state(), await whole.state());
  });

  test('says what is missing, by its path', async () => {
    const vpool = await lostVpool();
    await vpool.addVolume('gone.raw', 3);
    await vpool.addFile('grown', 4);
    await vpool.addVolume(undefined, 4);
    await vpool.addFile('cut', 5);
    await vpool.lose();
    const { backend } = vpool;
    await backend.deleteBucket(bucketOf(3));
    backend.blobs(filesBucket).delete(pieceKey(idOf(4), 3, 1, 0));
    backend.blobs(filesBucket).set(pieceKey(idOf(5), 3, 1, 0), new Uint8Array(9));
    backend.blobs(filesBucket).set(pieceKey(idOf(77), 3, 1, 0), new Uint8Array(9));
    backend.blobs(bucketOf(1)).set('notes.txt', new Uint8Array(1));
    const recovery = new Recovery(vpool);
    const { losses, volumes } = await recovery.run();
    assert.deepEqual([...losses].sort(), [
      '/cut: 1 of its 1 pieces are gone',
      '/disk.raw: notes.txt: no part of a volume',
      '/gone.raw: its bucket is gone',
      `object ${idOf(77)}: a small file without a name, 1 pieces of it`,
    ]);
    // What grew into a volume since is one.
    assert.equal(volumes, 4);
    assert.equal((await new ObjectRecords(recovery.registry).get(idOf(4))).kind, 'volume');
  });

  test('is not put over another registry, nor under hosts that are up', async () => {
    const vpool = await lostVpool();
    await vpool.lose();
    const recovery = new Recovery(vpool);
    const put = (key: string, value: object) =>
      recovery.registry.transact({ compares: [], writes: [{ key, put: encodeRecord(value) }] });
    const host = {
      instance: 'i',
      data: 'd',
      address: '1.2.3.4:5',
      mount: '/m',
      pid: 1,
      shared: {},
    };
    await put('Ha', host);
    await assert.rejects(recovery.run(), /host a \(1\.2\.3\.4:5\) is up/);
    await recovery.registry.transact({ compares: [], writes: [{ key: 'Ha', delete: true }] });
    await put('yy', {});
    await assert.rejects(recovery.run(), /not empty/);
    assert.equal((await recovery.registry.range({ from: '', to: '\u0100' })).entries.length, 1);
  });

  test('is none where there is no copy, or that of another one', async () => {
    const vpool = await lostVpool();
    const recovery = new Recovery(vpool);
    await assert.rejects(recovery.run(), /no whole copy of the registry of vPool demo/);
    assert.deepEqual(await recovery.state(), {});
  });
});

/** The registry of a process that is killed after so many transactions, and releases nothing. */
function dyingAfter(registry: Registry, transactions: number): Registry {
  let left = transactions;
  return {
    get: (key, options) => registry.get(key, options),
    range: (range, options) => registry.range(range, options),
    transact: async (transaction, options) => {
      left -= 1;
      if (left < 0) throw new StorageError('unavailable', 'killed');
      return registry.transact(transaction, options);
    },
    grantLease: async (ttlMs, options) => {
      const { id, signal } = await registry.grantLease(ttlMs, options);
      return { id, ttlMs, signal, validUntilMs: () => 0, release: async () => {} };
    },
    watch: (range, from, options) => registry.watch(range, from, options),
    close: () => registry.close(),
  };
}
