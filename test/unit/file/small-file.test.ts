import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isStorageError } from '../../../src/core/errors.ts';
import { KiB, MiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import {
  contentOf,
  fileId,
  FileWorld,
  manifestOf,
  namedKeys,
  until,
} from '../../support/file-world.ts';

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const failsWith = (code: Parameters<typeof isStorageError>[1]) => (error: unknown) =>
  isStorageError(error, code);

/** Puts wait until the result is called. */
function holdPuts(world: FileWorld): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  world.hold = (operation) => (operation === 'put' ? promise : undefined);
  return resolve;
}

describe('a commit of a small file', () => {
  test('puts the changed pieces alone, and takes away what they replace', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    for (const at of [0, 1, 2]) await file.write(at * MiB, filled(MiB, at + 1));
    await file.flush();
    assert.equal(world.faults.counts.put, 3);
    const before = await manifestOf(world);
    await file.write(MiB + 7, filled(10, 9));
    await file.flush();
    assert.equal(world.faults.counts.put, 4);
    const after = await manifestOf(world);
    assert.deepEqual([after.pieces[0], after.pieces[2]], [before.pieces[0], before.pieces[2]]);
    assert.notEqual(after.pieces[1]?.key, before.pieces[1]?.key);
    await world.driver.drained();
    assert.deepEqual([...world.blobs.keys()].sort(), await namedKeys(world));
    await file.close();
  });

  test('puts nothing for holes, zeroes and what was not changed', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    await file.write(0, filled(MiB, 0));
    await file.resize(20 * MiB);
    await file.write(20 * MiB - 1, filled(1, 1));
    await file.flush();
    await file.flush();
    assert.equal(world.faults.counts.put, 1);
    assert.equal(world.commits, 1);
    assert.equal(file.allocatedBytes(), MiB);
    assert.equal(await file.seek(0, 'data'), 19 * MiB);
    await file.trim(19 * MiB, MiB);
    await file.flush();
    await world.driver.drained();
    assert.equal(world.blobs.size, 0);
    assert.equal(file.allocatedBytes(), 0);
    assert.equal(file.size(), 20 * MiB);
    await file.close();
  });

  test('is shared by all who ask while another one runs', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    await file.write(0, filled(10, 1));
    const release = holdPuts(world);
    const first = file.flush();
    await file.write(0, filled(10, 2));
    const others = Array.from({ length: 20 }, () => file.flush());
    release();
    await Promise.all([first, ...others]);
    assert.equal(world.commits, 2);
    assert.equal((await manifestOf(world)).version, 2);
    await file.close();
  });

  test('leaves what is written meanwhile to the next one', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    await file.write(0, filled(100, 1));
    const release = holdPuts(world);
    const first = file.flush();
    await file.write(50, filled(100, 2));
    release();
    await first;
    assert.equal((await manifestOf(world)).sizeBytes, 100);
    const [stored] = [...world.blobs.values()];
    assert.deepEqual(stored, filled(100, 1));
    await file.close();
    assert.equal((await manifestOf(world)).sizeBytes, 150);
  });

  test('comes by itself after the delay', async () => {
    const world = new FileWorld({ writeBackDelayMs: 1 });
    const { file } = await world.open();
    for (const value of [1, 2]) {
      await file.write(0, filled(10, value));
      await until(() => world.commits === value);
    }
    await file.close();
    assert.equal(world.commits, 2);
  });

  test('that fails is tried again by itself, and told once', async () => {
    const world = new FileWorld({ writeBackDelayMs: 1 });
    const { file } = await world.open();
    let failures = 0;
    world.faults.choose = (operation) => {
      if (operation !== 'put' || failures === 2) return 'none';
      failures += 1;
      return failures === 1 ? 'before' : 'after';
    };
    await file.write(0, filled(10, 1));
    await until(() => world.commits === 1);
    await file.close();
    const told = world.log.lines.filter(({ message }) => message.includes('written back'));
    assert.deepEqual(
      told.map(({ level }) => level),
      ['warn', 'info'],
    );
    assert.equal(world.driver.dirtyBytes, 0);
  });
});

describe('a small file', () => {
  test('answers at once while its bytes are in memory', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    assert.equal(file.write(10, filled(5000, 7)), 1);
    const into = new Uint8Array(5000);
    assert.equal(file.read(10, into), 5000);
    await file.flush();
    assert.equal(file.read(10, into), 5000);
    assert.equal(file.write(0, filled(1, 1)), 2);
    assert.equal(file.trim(0, 1), 3);
    assert.equal(file.resize(3), 4);
    await file.close();
  });

  test('takes as much memory for a change as the file is large', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    await file.write(0, filled(10, 7));
    assert.equal(world.driver.dirtyBytes, 4 * KiB);
    await file.write(0, filled(9000, 7));
    assert.equal(world.driver.dirtyBytes, 16 * KiB);
    await file.trim(0, 9000);
    assert.equal(world.driver.dirtyBytes, 0);
    await file.close();
  });

  test('reads what a commit replaces under it, without an alarm', async () => {
    const world = new FileWorld({ cacheBytesMax: 1 });
    const { file } = await world.open();
    await file.write(0, filled(2 * MiB, 1));
    await file.flush();
    // The read has asked for a piece; before it is answered, a commit replaces that.
    const answered = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    world.hold = (operation) => {
      if (operation === 'put') return undefined;
      asked.resolve();
      return answered.promise;
    };
    const into = new Uint8Array(MiB);
    const reading = file.read(0, into);
    await asked.promise;
    await file.write(0, filled(MiB, 2));
    await file.flush();
    // Whatever wants to delete the old piece has had its chance.
    await sleep(5);
    answered.resolve();
    assert.equal(await reading, MiB);
    assert.ok(into[0] === 1 || into[0] === 2);
    await file.close();
    await world.driver.drained();
    assert.equal(world.blobs.size, 2);
    assert.deepEqual(
      world.log.lines.filter(({ level }) => level === 'error'),
      [],
    );
  });

  test('reports a damaged or missing piece for its bytes alone, with an alarm', async () => {
    for (const damage of ['flip', 'cut', 'remove'] as const) {
      const world = new FileWorld();
      const { file } = await world.open();
      await file.write(0, seededRandom(1).bytes(3 * MiB));
      await file.close();
      world.kill();
      const key = (await manifestOf(world)).pieces[1]?.key ?? '';
      const blob = world.blobs.get(key) ?? new Uint8Array();
      if (damage === 'flip') blob[4711] = (blob[4711] ?? 0) ^ 4;
      else if (damage === 'cut') world.blobs.set(key, blob.slice(0, -1));
      else world.blobs.delete(key);
      const { file: again } = await world.open();
      const into = new Uint8Array(10);
      assert.equal(await again.read(MiB - 10, into), 10);
      assert.equal(await again.read(2 * MiB, into), 10);
      await assert.rejects(async () => again.read(MiB, into), failsWith('corrupt'));
      // A part of it can't be replaced, as the rest is not known; all of it can.
      await assert.rejects(async () => again.write(MiB + 1, into), failsWith('corrupt'));
      assert.ok(world.log.lines.some(({ level }) => level === 'error'));
      await again.write(MiB, filled(MiB, 5));
      assert.equal(await again.read(MiB, into), 10);
      assert.equal(into[9], 5);
      await again.close();
      assert.equal(world.driver.dirtyBytes, 0);
    }
  });

  test('stays open, with all that was written, where its last flush fails', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    await file.write(0, filled(10, 1));
    world.faults.choose = () => 'before';
    await assert.rejects(file.close(), failsWith('unavailable'));
    await file.write(10, filled(10, 2));
    world.faults.choose = () => 'none';
    await file.close();
    const { file: again } = await world.open();
    assert.deepEqual(await contentOf(again), Uint8Array.of(...filled(10, 1), ...filled(10, 2)));
    await again.close();
  });

  test('hurts nobody once a later tenure has begun', async () => {
    const world = new FileWorld();
    const { file: old } = await world.open();
    await old.write(0, filled(10, 1));
    await old.flush();
    await old.write(0, filled(10, 2));
    const { file } = await world.open();
    await assert.rejects(old.flush(), failsWith('fenced'));
    await old.abandon();
    assert.deepEqual(await contentOf(file), filled(10, 1));
    await file.write(0, filled(10, 3));
    await file.close();
    assert.equal(world.driver.dirtyBytes, 0);
    const { file: again } = await world.open();
    assert.deepEqual(await contentOf(again), filled(10, 3));
    await again.close();
  });

  test('is let go without a commit when it is abandoned, whatever is under way', async () => {
    const world = new FileWorld({ dirtyBytesMax: 2 * MiB, cacheBytesMax: 1 });
    const { file, tenure } = await world.open();
    await file.write(0, filled(2 * MiB, 1));
    await file.flush();
    const release = holdPuts(world);
    const isEnd = (error: unknown) => isStorageError(error, 'closed');
    await file.write(0, filled(2 * MiB, 2));
    const pending = [
      assert.rejects(file.flush(), isEnd),
      // Waits for memory, which the commit holds.
      assert.rejects(async () => file.write(2 * MiB, filled(MiB, 3)), isEnd),
    ];
    await file.abandon();
    await file.abandon();
    await Promise.all(pending);
    tenure.end();
    release();
    assert.equal(world.commits, 1);
    assert.equal(world.driver.dirtyBytes, 0);
    assert.throws(() => file.read(0, new Uint8Array(1)), isEnd);
  });

  test('is deleted with all that ever was left of it', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    await file.write(0, filled(3 * MiB, 1));
    await file.flush();
    world.chooseForHead = () => 'before';
    await file.write(0, filled(3 * MiB, 2));
    await assert.rejects(file.flush());
    await file.abandon();
    assert.equal(world.blobs.size, 6);
    await world.driver.delete(fileId(1));
    await world.driver.delete(fileId(1));
    assert.equal(world.blobs.size, 0);
  });

  test('is looked through for leftovers once, not at each open', async () => {
    const world = new FileWorld();
    const openAndClose = async () => {
      const { file } = await world.open();
      await file.write(0, filled(10, 1));
      await file.close();
      await world.driver.drained();
    };
    for (const _ of [1, 2, 3]) await openAndClose();
    assert.equal(world.faults.counts.list, 0);
    world.kill();
    for (const _ of [1, 2, 3]) await openAndClose();
    assert.equal(world.faults.counts.list, 1);
    assert.equal(world.blobs.size, 1);
  });

  test('leaves nothing behind when its driver closes', async () => {
    const world = new FileWorld();
    const { file } = await world.open();
    for (const value of [1, 2, 3]) {
      await file.write(0, filled(10, value));
      await file.flush();
    }
    await file.close();
    await world.driver.close();
    assert.equal(world.blobs.size, 1);
  });
});

describe('the memory of all small files', () => {
  test('is bounded: writers wait for commits, of other files too, and all get through', async () => {
    const dirtyBytesMax = 4 * MiB;
    const world = new FileWorld({ dirtyBytesMax });
    const files = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => (await world.open(fileId(index + 1))).file),
    );
    let most = 0;
    await Promise.all(
      files.map(async (file, index) => {
        for (let step = 0; step < 8; step += 1) {
          // Parts of two pieces, of which half the time one is changed already.
          await file.write(step * 700 * KiB, filled(900 * KiB, index + 1));
          most = Math.max(most, world.driver.dirtyBytes);
        }
      }),
    );
    assert.ok(most <= dirtyBytesMax, String(most));
    await Promise.all(files.map((file) => file.close()));
    assert.equal(world.driver.dirtyBytes, 0);
    for (const index of files.keys()) {
      const { file } = await world.open(fileId(index + 1));
      assert.ok((await contentOf(file)).every((byte) => byte === index + 1));
      await file.close();
    }
  });

  test('may be smaller than a single change', async () => {
    const world = new FileWorld({ dirtyBytesMax: 1 });
    const { file } = await world.open();
    const { file: other } = await world.open(fileId(2));
    for (let step = 0; step < 10; step += 1)
      await Promise.all([
        file.write(step * 300 * KiB, filled(2 * MiB, step)),
        file.write(step * 100 * KiB, filled(10, step)),
        other.write(step * 700 * KiB, filled(MiB, step)),
        file.trim(step * 200 * KiB, 50 * KiB),
      ]);
    await Promise.all([file.close(), other.close()]);
    assert.equal(world.driver.dirtyBytes, 0);
  });
});
