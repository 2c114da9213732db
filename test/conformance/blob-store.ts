/** The contract of `Backend` and `BlobStore` (src/ports/blob-store.ts). */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../src/core/errors.ts';
import type { Backend } from '../../src/ports/blob-store.ts';

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

export function blobStoreSuite(
  name: string,
  open: () => Promise<{ readonly backend: Backend } & AsyncDisposable>,
  supports: { readonly pages: boolean } = { pages: true },
): void {
  const withBackend = (title: string, body: (backend: Backend) => Promise<void>) =>
    test(title, async () => {
      await using opened = await open();
      await body(opened.backend);
    });

  describe(`${name} as a blob store`, () => {
    withBackend('gives back what was put, whole and by range', async (backend) => {
      await backend.createBucket('one');
      const store = backend.bucket('one');
      const body = Uint8Array.from({ length: 100_000 }, (_, index) => index % 251);
      const sent = body.slice();
      await store.put('segment/00000001/0000002a', sent);
      sent.fill(0);
      const key = 'segment/00000001/0000002a';
      assert.deepEqual(new Uint8Array(await store.get(key)), body);
      const part = await store.get(key, { offset: 50_000, length: 10 });
      assert.deepEqual(new Uint8Array(part), body.slice(50_000, 50_010));
      assert.equal((await store.get(key, { offset: 99_995, length: 100 })).length, 5);
      assert.equal((await store.get(key, { offset: 200_000, length: 100 })).length, 0);
    });

    withBackend('says not_found of what is not there', async (backend) => {
      await backend.createBucket('one');
      await assert.rejects(backend.bucket('one').get('nothing'), (error) =>
        isStorageError(error, 'not_found'),
      );
    });

    withBackend('lists by prefix, in order, in pages', async (backend) => {
      await backend.createBucket('one');
      const store = backend.bucket('one');
      const keys = ['a/1', 'a/10', 'a/2', 'a-b', 'b/x/1', 'b/x/2', 'c'].sort();
      for (const key of keys) await store.put(key, bytes(key));
      const all = await store.list({ prefix: '' });
      const listed = all.blobs.map(({ key }) => key);
      assert.deepEqual(supports.pages ? listed : listed.sort(), keys);
      assert.ok(all.blobs.every((blob) => blob.bytes === blob.key.length));
      if (!supports.pages) return;
      const found: string[] = [];
      for (let after: string | undefined; ; ) {
        const page = await store.list({ prefix: 'a', limit: 2, ...(after && { after }) });
        found.push(...page.blobs.map(({ key }) => key));
        after = page.next;
        if (after === undefined) break;
      }
      assert.deepEqual(
        found,
        keys.filter((key) => key.startsWith('a')),
      );
    });

    withBackend('deletes many, and what is not there as well', async (backend) => {
      await backend.createBucket('one');
      const store = backend.bucket('one');
      await store.put('x', bytes('1'));
      await store.put('y', bytes('2'));
      await store.deleteMany(['x', 'nothing']);
      assert.deepEqual(
        (await store.list({ prefix: '' })).blobs.map(({ key }) => key),
        ['y'],
      );
    });

    withBackend('makes and deletes buckets, each as often as asked', async (backend) => {
      await backend.createBucket('wharf-one');
      await backend.createBucket('wharf-one');
      await backend.createBucket('wharf-two');
      await backend.bucket('wharf-one').put('a/b', bytes('1'));
      assert.deepEqual(await backend.listBuckets({ prefix: 'wharf-' }), ['wharf-one', 'wharf-two']);
      await backend.deleteBucket('wharf-one');
      await backend.deleteBucket('wharf-one');
      assert.deepEqual(await backend.listBuckets({ prefix: 'wharf-' }), ['wharf-two']);
    });

    withBackend('refuses a second put if absent where it says so', async (backend) => {
      await backend.createBucket('one');
      const store = backend.bucket('one');
      if (backend.conditionalPut !== 'honoured') return;
      await store.put('a', bytes('first'), { if: 'absent' });
      await assert.rejects(store.put('a', bytes('second'), { if: 'absent' }), (error) =>
        isStorageError(error, 'exists'),
      );
      assert.deepEqual(new Uint8Array(await store.get('a')), bytes('first'));
    });
  });
}
