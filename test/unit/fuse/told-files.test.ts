/** When the kernel is told of a file, when it may believe what it was told, and when neither. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ino as toIno } from '../../../src/core/units.ts';
import { ToldFiles } from '../../../src/frontend/fuse/told-files.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Attributes } from '../../../src/ports/file-system.ts';

const settle = () => new Promise((resolve) => setImmediate(resolve));
const ino = toIno(7);
const file = (version: number): Attributes => ({
  ...{ ino, type: 'file', mode: 0o644, linkCount: 1, uid: 0, gid: 0, rdev: 0, isVolume: false },
  ...{ sizeBytes: 10 * version, allocatedBytes: 0, accessedNs: 0n },
  ...{ modifiedNs: BigInt(version), changedNs: BigInt(version) },
});

/** A kernel that writes down what it is told, and may be slow to forget. */
function world() {
  const clock = new SimulatedClock();
  const heard: string[] = [];
  const state = { gate: Promise.resolve() };
  const hear = async (what: string) => {
    heard.push(what);
    await state.gate;
  };
  const told = new ToldFiles({ clock, filesMax: 3, forget: (of) => hear(`forget ${of}`) });
  const answer = (version: number, thread = 1, forgets = told.forgets) =>
    told.note(file(version), { thread, forgets });
  const change = () => told.changed(ino, () => hear('news'));
  /** It was told version 1; now 2 is opened. */
  const openChanged = async () => {
    answer(1);
    await told.opened(1n, file(2));
    assert.deepEqual(heard.splice(0), ['forget 7']);
  };
  const slow = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    state.gate = promise;
    return resolve;
  };
  return { clock, told, heard, answer, change, openChanged, slow };
}

describe('a kernel that opens a file', () => {
  test('forgets it where it was told another version, or none', async () => {
    const { told, heard, answer } = world();
    await told.opened(1n, file(1));
    assert.deepEqual(heard.splice(0), ['forget 7']);
    answer(1);
    told.released(ino, 1n);
    await told.opened(2n, file(1));
    assert.deepEqual(heard, []);
    await told.opened(3n, file(2));
    assert.deepEqual(heard, ['forget 7']);
  });

  test('forgets it once for all who open it before anybody asks', async () => {
    const { told, heard, answer, slow } = world();
    answer(1);
    const forgotten = slow();
    let opened = 0;
    for (const handle of [1n, 2n]) void told.opened(handle, file(2)).then(() => (opened += 1));
    await settle();
    assert.deepEqual([heard, opened], [['forget 7'], 0]);
    forgotten();
    await settle();
    assert.equal(opened, 2);
    await told.opened(3n, file(3));
    assert.deepEqual(heard, ['forget 7']);
  });

  test('does not forget what it has written or cut by itself', async () => {
    const { told, heard, answer } = world();
    answer(1);
    told.noteOwn(ino, 'written', 7);
    await told.opened(1n, { ...file(2), sizeBytes: 10 });
    told.noteOwn(ino, 'written', 25);
    await told.opened(2n, { ...file(3), sizeBytes: 25 });
    told.noteOwn(ino, 'cut', 4);
    await told.opened(3n, { ...file(4), sizeBytes: 4 });
    assert.deepEqual(heard, []);
    await told.opened(4n, { ...file(5), sizeBytes: 25 });
    assert.deepEqual(heard, ['forget 7'], 'another host has appended');
  });

  test('forgets what is not remembered any more', async () => {
    const { told, heard, answer } = world();
    answer(1);
    for (const other of [8, 9, 10])
      told.note({ ...file(1), ino: toIno(other) }, { thread: 1, forgets: 0 });
    await told.opened(1n, file(1));
    assert.deepEqual(heard, ['forget 7']);
  });
});

describe('a kernel that was made to forget a file for who opened it', () => {
  test('is told of changes again when the thread that asked has taken its answer', async () => {
    const { told, heard, answer, change, openChanged } = world();
    await change();
    assert.deepEqual(heard.splice(0), ['news'], 'of a file that nobody has opened');
    await openChanged();
    await change();
    assert.deepEqual(heard, [], 'it has to ask anyway');
    assert.equal(answer(2, 11), 'new');
    answer(2, 12);
    const telling = change();
    told.came(12);
    await settle();
    assert.deepEqual(heard, [], 'it would drop the answer');
    told.came(11);
    await telling;
    assert.deepEqual(heard.splice(0), ['news']);
    await told.opened(2n, file(2));
    assert.deepEqual(heard, ['forget 7'], 'what it was told before the news does not count');
  });

  test('or when all who opened it have closed it', async () => {
    const { told, heard, answer, change, openChanged } = world();
    await openChanged();
    answer(2);
    await told.opened(2n, file(2));
    const telling = change();
    told.released(ino, 1n);
    await settle();
    assert.deepEqual(heard, []);
    told.released(ino, 2n);
    await telling;
    assert.deepEqual(heard, ['news']);
  });

  test('or after a while, if the thread is not heard of, or has no name', async () => {
    const { clock, told, heard, answer, change, openChanged } = world();
    for (const thread of [11, 0]) {
      await openChanged();
      answer(2, thread);
      const telling = change();
      told.came(0);
      await clock.advance(99);
      assert.deepEqual(heard, []);
      await clock.advance(1);
      await telling;
      assert.deepEqual(heard.splice(0), ['news']);
    }
  });

  test('forgets a yet newer version when the answer is taken, and not before', async () => {
    const { told, heard, answer, openChanged } = world();
    await openChanged();
    answer(2, 11);
    await told.opened(2n, file(2));
    const opening = told.opened(3n, file(3));
    await settle();
    assert.deepEqual(heard, []);
    told.came(11);
    await opening;
    assert.deepEqual(heard, ['forget 7']);
  });

  test('is told as soon as it has asked, if who opened it did not', async () => {
    const { told, heard, answer, change, openChanged } = world();
    await openChanged();
    told.released(ino, 1n);
    answer(2);
    await change();
    assert.deepEqual(heard, ['news']);
  });
});

describe('a kernel that is about to forget a file', () => {
  test('believes nothing that it has asked before', async () => {
    const { told, heard, answer, change, slow } = world();
    answer(1);
    const resolve = slow();
    const before = told.forgets;
    const opening = told.opened(1n, file(2));
    assert.equal(answer(2, 11), 'old');
    resolve();
    await opening;
    assert.equal(answer(2, 11, before), 'old');
    await change();
    assert.deepEqual(heard, ['forget 7'], 'nor has it got an answer');
    assert.equal(answer(2, 11), 'new');
  });

  test('because of news or a lock is waited for by who opens it, but not for ever', async () => {
    for (const why of ['changed', 'drop'] as const)
      for (const isSlow of [false, true]) {
        const { clock, told, heard, answer } = world();
        answer(1);
        const { promise, resolve } = Promise.withResolvers<void>();
        const telling = told[why](ino, () => promise);
        let isOpen = false;
        const opening = told.opened(1n, file(2)).then(() => (isOpen = true));
        await settle();
        assert.deepEqual([heard, isOpen], [['forget 7'], false], 'its answer would be dropped');
        assert.equal(answer(2), 'old');
        if (isSlow) await clock.advance(100);
        else resolve();
        await opening;
        assert.equal(answer(2), isSlow ? 'old' : 'new');
        resolve();
        await telling;
      }
  });

  test('because of a lock has to ask afterwards, whatever it has forgotten before', async () => {
    const { told, heard, answer, change } = world();
    const drop = () => told.drop(ino, async () => void heard.push('drop'));
    answer(1);
    await drop();
    await drop();
    await change();
    assert.deepEqual(heard.splice(0), ['drop', 'drop']);
    answer(2, 11);
    const dropping = drop();
    await settle();
    assert.deepEqual(heard, []);
    told.came(11);
    await dropping;
    await change();
    assert.deepEqual(heard, ['drop']);
  });
});
