/** How long pieces stay that nobody names any more. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../../src/backend/memory-backend.ts';
import { Janitor } from '../../../src/file/janitor.ts';
import { emptyManifest, pieceKey } from '../../../src/file/manifest.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import { fileId } from '../../support/file-world.ts';
import { quietLog } from '../../support/quiet-log.ts';

const keptMs = 60_000;
const id = fileId(1);
const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

async function begin() {
  const backend = new MemoryBackend();
  await backend.createBucket('files');
  const [clock, store, blobs] = [
    new SimulatedClock(),
    backend.bucket('files'),
    backend.blobs('files'),
  ];
  const janitor = new Janitor({ store, clock, log: quietLog(), keptMs });
  /** A piece of the version; gives its name. */
  const put = (version: number, epoch = 1) => {
    const key = pieceKey(id, epoch, version, 0);
    blobs.set(key, new Uint8Array(1));
    return key;
  };
  return { janitor, clock, blobs, put };
}

describe('pieces of a file that were replaced', () => {
  test('stay until the copy of the registry names them no more', async () => {
    const { janitor, clock, blobs, put } = await begin();
    const first = put(1);
    janitor.discard(id, [first]);
    await clock.advance(keptMs / 2);
    const second = put(2);
    janitor.discard(id, [second]);
    await clock.advance(keptMs / 2 - 1);
    assert.deepEqual([...blobs.keys()], [first, second]);
    await clock.advance(1);
    assert.deepEqual([...blobs.keys()], [second]);
    await clock.advance(keptMs / 2);
    assert.deepEqual([...blobs.keys()], []);
    await janitor.close();
  });

  test('stay as long where it was another host that has replaced them', async () => {
    const { janitor, clock, blobs, put } = await begin();
    const [old, named] = [put(1), put(2)];
    const pieces = [{ key: named, bytes: 1, checksum: 0 }];
    janitor.inspect(id, 2, { ...emptyManifest, version: 2, sizeBytes: 1, pieces });
    await clock.advance(keptMs - 1);
    assert.deepEqual([...blobs.keys()], [old, named]);
    await clock.advance(1);
    assert.deepEqual([...blobs.keys()], [named]);
    await janitor.close();
  });

  test('go earlier when they are too many, the oldest first', async () => {
    const { janitor, blobs, put } = await begin();
    const keys = Array.from({ length: 10_500 }, (_, version) => put(version));
    janitor.discard(id, keys.slice(0, 6000));
    await turns();
    assert.equal(blobs.size, keys.length);
    janitor.discard(id, keys.slice(6000));
    await turns();
    assert.deepEqual([...blobs.keys()], keys.slice(500));
    await janitor.close();
  });

  test('go at once when their host stops, as nobody would do it later', async () => {
    const { janitor, blobs, put } = await begin();
    janitor.discard(id, [put(1), put(2)]);
    await turns();
    janitor.hurry();
    await janitor.drained();
    assert.equal(blobs.size, 0);
    janitor.discard(id, [put(3)]);
    await janitor.drained();
    assert.equal(blobs.size, 0);
    await janitor.close();
  });

  test('of a crash are left for a later open when the host stops before their time', async () => {
    const { janitor, blobs, put } = await begin();
    const left = put(1);
    janitor.inspect(id, 2, { ...emptyManifest, version: 2 });
    janitor.hurry();
    await janitor.drained();
    assert.deepEqual([...blobs.keys()], [left]);
    await janitor.close();
  });
});
