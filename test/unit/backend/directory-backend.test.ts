import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DirectoryBackend } from '../../../src/backend/directory-backend.ts';
import { MemoryBackend } from '../../../src/backend/memory-backend.ts';
import { type ErrorCode, isStorageError } from '../../../src/core/errors.ts';
import type { BlobStore } from '../../../src/ports/blob-store.ts';

const isNotRoot = process.getuid?.() === 0 ? false : 'mounting a small file system needs root';
const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const is = (code: ErrorCode) => (error: unknown) => isStorageError(error, code);

async function inFolder(body: (root: string) => Promise<void>): Promise<void> {
  const folder = await fs.mkdtemp(join(tmpdir(), 'wharf-directory-'));
  try {
    await body(join(folder, 'store'));
  } finally {
    await fs.rm(folder, { recursive: true });
  }
}

async function allKeys(store: BlobStore, prefix: string, limit: number): Promise<string[]> {
  const keys: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.list({ prefix, limit, ...(after !== undefined && { after }) });
    keys.push(...page.blobs.map(({ key }) => key));
    after = page.next;
    if (after === undefined) return keys;
  }
}

/** A tmpfs of 1 MiB in place of the folder. */
async function onSmallFileSystem(body: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    mkdirSync(root);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', root]);
    assert.equal(mounted.status, 0, mounted.stderr.toString());
    try {
      await body(root);
    } finally {
      spawnSync('umount', ['-l', root]);
    }
  });
}

describe('an object store in a directory', () => {
  test('removes at its start what a killed process left, once that is old', () =>
    inFolder(async (root) => {
      const first = await DirectoryBackend.open(root);
      await first.createBucket('one');
      await first.bucket('one').put('a/b', bytes('kept'));
      writeFileSync(join(root, '.incoming/half-written'), 'half');
      mkdirSync(join(root, '.incoming/half-deleted/a'), { recursive: true });
      await DirectoryBackend.open(root);
      assert.equal((await fs.readdir(join(root, '.incoming'))).length, 2);
      const second = await DirectoryBackend.open(root, { leftoverAgeMs: 0 });
      assert.deepEqual(await fs.readdir(join(root, '.incoming')), []);
      assert.equal((await second.bucket('one').get('a/b')).length, 4);
    }));

  test('lists neither what is being written nor its own folders', () =>
    inFolder(async (root) => {
      const backend = await DirectoryBackend.open(root);
      await backend.createBucket('one');
      writeFileSync(join(root, '.incoming/half-written'), 'half');
      assert.deepEqual(await backend.listBuckets({ prefix: '' }), ['one']);
      assert.deepEqual((await backend.bucket('one').list({ prefix: '' })).blobs, []);
    }));

  test('leaves nothing behind after a put that failed', () =>
    inFolder(async (root) => {
      const backend = await DirectoryBackend.open(root);
      await backend.createBucket('one');
      const store = backend.bucket('one');
      await store.put('a', bytes('1'), { if: 'absent' });
      await assert.rejects(store.put('a', bytes('2'), { if: 'absent' }), is('exists'));
      await assert.rejects(backend.bucket('none').put('a', bytes('2')), is('not_found'));
      await assert.rejects(backend.bucket('none').put('a/b', bytes('2')), is('not_found'));
      await assert.rejects(store.put('a/b', bytes('a blob is no folder')), is('not_found'));
      await assert.rejects(store.put('x'.repeat(300), bytes('a long name')), is('invalid'));
      assert.deepEqual(await fs.readdir(join(root, '.incoming')), []);
      assert.deepEqual(await backend.listBuckets({ prefix: '' }), ['one']);
    }));

  test('gives one winner among processes that put if absent', () =>
    inFolder(async (root) => {
      const backends = await Promise.all(
        Array.from({ length: 4 }, () => DirectoryBackend.open(root)),
      );
      await backends[0]?.createBucket('one');
      for (let round = 0; round < 10; round += 1) {
        const writers = Array.from({ length: 16 }, (_, writer) => writer);
        const results = await Promise.allSettled(
          writers.map((writer) => {
            const store = (backends[writer % 4] as DirectoryBackend).bucket('one');
            return store.put(`x/${round}`, bytes(`${writer}`), { if: 'absent' });
          }),
        );
        const won = writers.filter((writer) => results[writer]?.status === 'fulfilled');
        assert.equal(won.length, 1);
        const held = await (backends[0] as DirectoryBackend).bucket('one').get(`x/${round}`);
        assert.equal(Buffer.from(held).toString(), `${won[0]}`);
      }
    }));

  test('puts into a bucket that another process deleted and made again', () =>
    inFolder(async (root) => {
      const mine = await DirectoryBackend.open(root);
      const other = await DirectoryBackend.open(root);
      await mine.createBucket('one');
      await mine.bucket('one').put('segment/1/2', bytes('old'));
      await other.deleteBucket('one');
      await assert.rejects(mine.bucket('one').put('segment/1/3', bytes('x')), is('not_found'));
      assert.deepEqual(await mine.listBuckets({ prefix: '' }), []);
      await other.createBucket('one');
      await mine.bucket('one').put('segment/1/3', bytes('new'));
      assert.deepEqual(await allKeys(other.bucket('one'), '', 10), ['segment/1/3']);
    }));

  test('keeps a large listing over its pages, and still sees each change', () =>
    inFolder(async (root) => {
      const backend = await DirectoryBackend.open(root);
      await backend.createBucket('one');
      const store = backend.bucket('one');
      const folder = join(root, 'one/segment/00000001');
      mkdirSync(folder, { recursive: true });
      const name = (index: number) => (2 * index).toString(16).padStart(8, '0');
      for (let index = 0; index < 3000; index += 1) writeFileSync(join(folder, name(index)), '');
      // Old enough that any change shows in the modification time.
      utimesSync(folder, 1e9, 1e9);
      const prefix = 'segment/';
      const first = await store.list({ prefix, limit: 1000 });
      assert.equal(first.next, `segment/00000001/${name(999)}`);
      const middle = await store.list({ prefix, after: first.next as string, limit: 1000 });
      const between = `segment/00000001/${(2 * 2500 + 1).toString(16).padStart(8, '0')}`;
      await store.put(between, bytes('seen'));
      rmSync(join(folder, name(2600)));
      const last = await store.list({ prefix, after: middle.next as string, limit: 1000 });
      const keys = last.blobs.map(({ key }) => key);
      assert.equal(last.blobs.length, 1000);
      assert.equal(last.next, undefined);
      assert.ok(keys.includes(between));
      assert.ok(!keys.includes(`segment/00000001/${name(2600)}`));
    }));

  test('lists any keys in the order of their bytes, from anywhere', () =>
    inFolder(async (root) => {
      const backend = await DirectoryBackend.open(root);
      const model = new MemoryBackend();
      const part = fc.stringMatching(/^[ab_-]{1,2}$/);
      const key = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
      const isFolder = (a: string, keys: readonly string[]) =>
        keys.some((other) => other.startsWith(`${a}/`));
      const keySets = fc
        .uniqueArray(key, { maxLength: 20 })
        .map((keys) => keys.filter((one) => !isFolder(one, keys)));
      const from = fc.oneof(key, fc.stringMatching(/^[ab/-]{0,4}$/));
      let round = 0;
      await fc.assert(
        fc.asyncProperty(keySets, from, from, fc.nat(4), async (keys, prefix, after, more) => {
          round += 1;
          const answers = await Promise.all(
            [backend, model].map(async (each) => {
              await each.createBucket(`b${round}`);
              const store = each.bucket(`b${round}`);
              for (const one of keys) await store.put(one, bytes(one));
              return store.list({ prefix, after, limit: more + 1 });
            }),
          );
          assert.deepEqual(answers[0], answers[1]);
        }),
        { numRuns: 60 },
      );
    }));

  test('tells a full and a read-only file system apart', { skip: isNotRoot }, () =>
    onSmallFileSystem(async (root) => {
      const backend = await DirectoryBackend.open(root);
      await backend.createBucket('one');
      const store = backend.bucket('one');
      await store.put('a', bytes('kept'));
      await assert.rejects(store.put('b', new Uint8Array(2 ** 21)), is('no_space'));
      assert.deepEqual(await allKeys(store, '', 10), ['a']);
      const { totalBytes, freeBytes } = await backend.space();
      assert.equal(totalBytes, 2 ** 20);
      assert.ok(freeBytes < totalBytes);
      assert.equal(spawnSync('mount', ['-o', 'remount,ro', root]).status, 0);
      const readOnly = await DirectoryBackend.open(root);
      await assert.rejects(readOnly.bucket('one').put('b', bytes('1')), is('read_only'));
      await assert.rejects(readOnly.bucket('one').deleteMany(['a']), is('read_only'));
      assert.equal((await readOnly.bucket('one').get('a')).length, 4);
    }),
  );
});
