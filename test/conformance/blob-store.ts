/** The contract of `Backend` and `BlobStore` (src/ports/blob-store.ts). */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ErrorCode, isStorageError } from '../../src/core/errors.ts';
import { MiB } from '../../src/core/units.ts';
import type { Backend, BlobStore } from '../../src/ports/blob-store.ts';

/** What an implementation need not do. */
export interface BlobStoreSupport {
  /** Lists in order, and goes on behind the first page. */
  readonly pages?: boolean;
  /** Answers a range of an empty blob. */
  readonly emptyRanges?: boolean;
  /** Tells a bucket that is not there from an empty one. */
  readonly missingBuckets?: boolean;
  /** Waits for something that a signal can end. */
  readonly aborts?: boolean;
}

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const text = (found: Uint8Array) => Buffer.from(found).toString();
const is = (code: ErrorCode) => (error: unknown) => isStorageError(error, code);

async function keysOf(store: BlobStore, prefix = '', limit = 1000): Promise<string[]> {
  const keys: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.list({ prefix, limit, ...(after !== undefined && { after }) });
    assert.ok(page.blobs.length <= limit);
    keys.push(...page.blobs.map(({ key }) => key));
    after = page.next;
    if (after === undefined) return keys;
  }
}

/** A put whose buffer is scribbled over as soon as it settles. */
async function putAndMangle(store: BlobStore, key: string, body: Uint8Array): Promise<void> {
  const sent = body.slice();
  await store.put(key, sent);
  sent.fill(0xee);
}

export function blobStoreSuite(
  name: string,
  open: () => Promise<{ readonly backend: Backend } & AsyncDisposable>,
  supports: BlobStoreSupport = {},
): void {
  const { pages = true, emptyRanges = true, missingBuckets = true, aborts = true } = supports;
  const withBackend = (title: string, body: (backend: Backend) => Promise<void>) =>
    test(title, async () => {
      await using opened = await open();
      await body(opened.backend);
    });
  const withStore = (title: string, body: (store: BlobStore, backend: Backend) => Promise<void>) =>
    withBackend(title, async (backend) => {
      await backend.createBucket('one');
      await body(backend.bucket('one'), backend);
    });

  describe(`${name} as a blob store`, () => {
    withStore('gives back what was put, whole and by range', async (store) => {
      const body = Uint8Array.from({ length: 100_000 }, (_, index) => index % 251);
      const key = 'segment/00000001/0000002a';
      await putAndMangle(store, key, body);
      assert.deepEqual(new Uint8Array(await store.get(key)), body);
      const part = await store.get(key, { offset: 50_000, length: 10 });
      assert.deepEqual(new Uint8Array(part), body.slice(50_000, 50_010));
      const rest = await store.get(key, { offset: 99_990 });
      assert.deepEqual(new Uint8Array(rest), body.slice(99_990));
      assert.equal((await store.get(key, { length: 7 })).length, 7);
      assert.equal((await store.get(key, { offset: 99_995, length: 100 })).length, 5);
      assert.equal((await store.get(key, { offset: 100_000, length: 1 })).length, 0);
      assert.equal((await store.get(key, { offset: 200_000, length: 100 })).length, 0);
      assert.equal((await store.get(key, { offset: 5, length: 0 })).length, 0);
    });

    withStore('keeps an empty blob and a large one', async (store) => {
      await putAndMangle(store, 'empty', new Uint8Array(0));
      assert.equal((await store.get('empty')).length, 0);
      if (emptyRanges) assert.equal((await store.get('empty', { length: 10 })).length, 0);
      const large = new Uint8Array(20 * MiB + 1);
      for (let at = 0; at < large.length; at += 1000) large[at] = at % 253;
      await putAndMangle(store, 'large', large);
      assert.equal(Buffer.compare(await store.get('large'), large), 0);
      const { blobs } = await store.list({ prefix: 'large' });
      assert.deepEqual(blobs, [{ key: 'large', bytes: large.length }]);
    });

    withStore('says not_found of what is not there', async (store) => {
      await assert.rejects(store.get('nothing'), is('not_found'));
      await assert.rejects(store.get('no/thing', { offset: 0, length: 5 }), is('not_found'));
      await assert.rejects(store.get('nothing', { length: 0 }), is('not_found'));
      await store.put('a/b', bytes('1'));
      await assert.rejects(store.get('a'), is('not_found'));
    });

    if (missingBuckets)
      withBackend('says not_found of a bucket that is not there', async (backend) => {
        const store = backend.bucket('none');
        await assert.rejects(store.get('a'), is('not_found'));
        await assert.rejects(store.put('a', bytes('1')), is('not_found'));
        await assert.rejects(store.put('a/b', bytes('1'), { if: 'absent' }), is('not_found'));
        await assert.rejects(store.list({ prefix: '' }), is('not_found'));
        await assert.rejects(store.deleteMany(['a', 'b']), is('not_found'));
        assert.deepEqual(await backend.listBuckets({ prefix: 'none' }), []);
      });

    withStore('lists by prefix, in order, in pages', async (store) => {
      const keys = ['a/1', 'a/10', 'a/2', 'a-b', 'aZ', 'a_', 'b/x/1', 'b/x/2', 'b.y', 'c'].sort();
      for (const key of keys) await store.put(key, bytes(key));
      const all = await store.list({ prefix: '' });
      const listed = all.blobs.map(({ key }) => key);
      assert.deepEqual(pages ? listed : listed.sort(), keys);
      assert.ok(all.blobs.every((blob) => blob.bytes === blob.key.length));
      assert.deepEqual(await keysOf(store, 'd'), []);
      if (!pages) return;
      for (const prefix of ['', 'a', 'a/', 'a/1', 'b/x', 'c'])
        for (const limit of [1, 2, 3, 1000])
          assert.deepEqual(
            await keysOf(store, prefix, limit),
            keys.filter((key) => key.startsWith(prefix)),
          );
      const behind = await store.list({ prefix: 'b', after: 'b/x' });
      assert.deepEqual(
        behind.blobs.map(({ key }) => key),
        ['b/x/1', 'b/x/2'],
      );
    });

    withStore('lists what was put, and not what was deleted, at once', async (store) => {
      for (let round = 0; round < 5; round += 1) {
        await store.put(`round/${round}`, bytes('1'));
        assert.ok((await keysOf(store)).includes(`round/${round}`));
        await store.deleteMany([`round/${round}`]);
        assert.deepEqual(await keysOf(store), []);
      }
    });

    withStore('deletes many, and what is not there as well', async (store) => {
      const keys = Array.from({ length: 40 }, (_, index) => `dead/${index % 3}/${index}`);
      await Promise.all(keys.map((key) => store.put(key, bytes(key))));
      await store.put('y', bytes('2'));
      await store.deleteMany([...keys, 'nothing', 'no/thing']);
      await store.deleteMany(keys);
      await store.deleteMany(['nothing']);
      await store.deleteMany([]);
      assert.deepEqual(await keysOf(store), ['y']);
    });

    withBackend('makes and deletes buckets, each as often as asked', async (backend) => {
      await backend.createBucket('wharf-one');
      await backend.createBucket('wharf-two');
      await backend.bucket('wharf-one').put('a/b', bytes('1'));
      await backend.bucket('wharf-two').put('a/b', bytes('2'));
      await backend.createBucket('wharf-one');
      assert.equal(text(await backend.bucket('wharf-one').get('a/b')), '1');
      assert.deepEqual(await backend.listBuckets({ prefix: 'wharf-' }), ['wharf-one', 'wharf-two']);
      assert.deepEqual(await backend.listBuckets({ prefix: 'wharf-t' }), ['wharf-two']);
      await backend.deleteBucket('wharf-one');
      await backend.deleteBucket('wharf-one');
      await backend.deleteBucket('wharf-none');
      assert.deepEqual(await backend.listBuckets({ prefix: 'wharf-' }), ['wharf-two']);
      assert.equal(text(await backend.bucket('wharf-two').get('a/b')), '2');
      await backend.createBucket('wharf-one');
      assert.deepEqual(await keysOf(backend.bucket('wharf-one')), []);
    });

    withStore('takes the same put again', async (store) => {
      await store.put('a', bytes('same'));
      await store.put('a', bytes('same'));
      assert.equal(text(await store.get('a')), 'same');
      assert.deepEqual(await keysOf(store), ['a']);
    });

    withStore('puts if absent once, where it honours that', async (store, backend) => {
      await store.put('a', bytes('first'), { if: 'absent' });
      assert.equal(text(await store.get('a')), 'first');
      if (backend.conditionalPut !== 'honoured') return;
      await assert.rejects(store.put('a', bytes('second'), { if: 'absent' }), is('exists'));
      assert.equal(text(await store.get('a')), 'first');
      const writers = Array.from({ length: 16 }, (_, writer) => writer);
      const results = await Promise.allSettled(
        writers.map((writer) => store.put('race', bytes(`${writer}`), { if: 'absent' })),
      );
      const won = writers.filter((writer) => results[writer]?.status === 'fulfilled');
      assert.equal(won.length, 1);
      assert.equal(text(await store.get('race')), `${won[0]}`);
    });

    withStore('serves many calls at once', async (store) => {
      const keys = Array.from({ length: 64 }, (_, index) => `many/${index}`);
      await Promise.all(keys.map((key) => putAndMangle(store, key, bytes(key.repeat(100)))));
      const found = await Promise.all(keys.map((key) => store.get(key)));
      assert.deepEqual(
        found.map(text),
        keys.map((key) => key.repeat(100)),
      );
    });

    if (aborts)
      withStore('rejects with the reason of a signal that has fired', async (store, backend) => {
        const reason = new Error('enough');
        const signal = AbortSignal.abort(reason);
        const enough = (error: unknown) => error === reason;
        await assert.rejects(store.put('a', bytes('1'), { signal }), enough);
        await assert.rejects(store.get('a', { signal }), enough);
        await assert.rejects(store.list({ prefix: '', signal }), enough);
        await assert.rejects(store.deleteMany(['a'], { signal }), enough);
        await assert.rejects(backend.createBucket('two', { signal }), enough);
        await assert.rejects(backend.deleteBucket('one', { signal }), enough);
        await assert.rejects(backend.listBuckets({ prefix: '', signal }), enough);
        assert.deepEqual(await keysOf(store), []);
      });
  });
}
