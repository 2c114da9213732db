import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import type { Ino, ObjectId } from '../../../src/core/units.ts';
import { hostId } from '../../../src/core/units.ts';
import { WharfFileSystem } from '../../../src/frontend/filesystem.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import { rootIno } from '../../../src/ports/file-system.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { Namespace } from '../../../src/registry/namespace.ts';
import { lineageOf, noKeptFiles } from '../../support/lineage.ts';
import { memoryObjects } from '../../support/memory-objects.ts';
import { quietLog } from '../../support/quiet-log.ts';

const owner = { uid: 0, gid: 0 };

async function openFileSystem(objects = memoryObjects()) {
  const clock = new SimulatedClock();
  const namespace = new Namespace(new MemoryRegistry(clock), '00'.repeat(16));
  const fileSystem = await WharfFileSystem.open(
    {
      kept: noKeptFiles(),
      lineage: lineageOf(namespace.registry),
      ...{ namespace, objects, clock, random: seededRandom(1), log: quietLog() },
      ...{ host: hostId('a') },
      space: async () => ({ totalBytes: 1, freeBytes: 1, inodesTotal: 1, inodesFree: 1 }),
    },
    { volumeNames: ['*.raw'], attributeDelayMs: 1_000_000, keptMs: 0 },
    owner,
  );
  const make = async (name: string) => {
    const { ino } = await fileSystem.make(rootIno, name, { type: 'file', mode: 0o644 }, owner);
    await fileSystem.open(ino);
    return ino;
  };
  const kept = async (ino: Ino) => (await namespace.inode(ino)).record;
  return { fileSystem, clock, make, kept };
}

test('a flush brings a new size to the registry', async () => {
  const { fileSystem, make, kept } = await openFileSystem();
  const ino = await make('disk.raw');
  for (const end of [4096, 8192]) {
    await fileSystem.write(ino, end - 4096, new Uint8Array(4096));
    await fileSystem.flush(ino);
    assert.equal((await kept(ino)).sizeBytes, end);
  }
  await fileSystem.close();
});

test('a flush of a volume of the same size leaves the registry alone', async () => {
  const { fileSystem, clock, make, kept } = await openFileSystem();
  const ino = await make('disk.raw');
  await fileSystem.write(ino, 0, new Uint8Array(4096));
  await fileSystem.flush(ino);
  const before = await kept(ino);
  await clock.advance(10);
  await fileSystem.write(ino, 0, new Uint8Array(4096).fill(1));
  await fileSystem.flush(ino);
  assert.deepEqual(await kept(ino), before);
  await fileSystem.release(ino);
  assert.notEqual((await kept(ino)).modifiedNs, before.modifiedNs);
  await fileSystem.close();
});

test("a flush of a small file brings the file's times too", async () => {
  const { fileSystem, clock, make, kept } = await openFileSystem();
  const ino = await make('note');
  await fileSystem.write(ino, 0, new Uint8Array(10));
  await fileSystem.flush(ino);
  const before = await kept(ino);
  await clock.advance(10);
  await fileSystem.write(ino, 0, new Uint8Array(10));
  await fileSystem.flush(ino);
  assert.notEqual((await kept(ino)).modifiedNs, before.modifiedNs);
  await fileSystem.close();
});

test('a write after the clock was set back has the time that it shows', async () => {
  const { fileSystem, clock, make, kept } = await openFileSystem();
  const ino = await make('note');
  const times: bigint[] = [];
  for (const ns of [5_000_000_000n, 5_000_000_000n, 4_999_000_000n]) {
    clock.wallNs = () => ns;
    await fileSystem.write(ino, 0, new Uint8Array(10));
    await fileSystem.flush(ino);
    times.push((await kept(ino)).modifiedNs);
  }
  assert.deepEqual(times, [5_000_000_000n, 5_000_000_001n, 4_999_000_000n]);
  await fileSystem.close();
});

test('a size that an administrator gives is durable, and who has lost changes hears of it himself', async () => {
  const objects = memoryObjects();
  const { fileSystem, make, kept } = await openFileSystem(objects);
  const ino = await make('disk.raw');
  const { object } = await kept(ino);
  const handle = objects.opened(object as ObjectId);
  assert.ok(handle);
  const flush = handle.flush.bind(handle);
  handle.flush = () => Promise.reject(new StorageError('failed', 'changes are lost'));
  let hardened = 0;
  handle.harden = async () => void (hardened = handle.size());
  assert.equal((await fileSystem.resize(ino, 8192)).sizeBytes, 8192);
  assert.equal(hardened, 8192);
  assert.equal((await kept(ino)).sizeBytes, 8192);
  // Its owner is lost, and the next one has never heard of it.
  handle.harden = async () => void handle.resize(8192);
  await assert.rejects(fileSystem.resize(ino, 4096), { code: 'failed' });
  handle.flush = flush;
  await fileSystem.close();
});
