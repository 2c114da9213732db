import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LineSlots, lineBytes, partsOf } from '../../../src/cache/line-slots.ts';
import { InvariantError } from '../../../src/core/invariant.ts';
import { seededRandom } from '../../../src/platform/random.ts';

const yes = () => true;
const no = () => false;
const all = 0xffff;

/** Puts line `line` of object 1 into a slot of its own. */
function put(slots: LineSlots, line: number, object = 1): number {
  const slot = slots.take(yes);
  assert.ok(slot >= 0);
  slots.put(slot, object, 1, 1, line, all);
  return slot;
}

const has = (slots: LineSlots, line: number, object = 1) => slots.find(object, 1, 1, line) >= 0;

test('parts of a line have a bit each, whole or touched', () => {
  assert.equal(partsOf(0, lineBytes), 0xffff);
  assert.equal(partsOf(0, 1), 0x0001);
  assert.equal(partsOf(0, 4096), 0x0001);
  assert.equal(partsOf(0, 4097), 0x0003);
  assert.equal(partsOf(4095, 2), 0x0003);
  assert.equal(partsOf(lineBytes - 1, 1), 0x8000);
  assert.equal(partsOf(8192, 12_288), 0x001c);
});

describe('the slots of the cache', () => {
  test('are used one after another, and given up when there are no more', () => {
    const slots = new LineSlots(20);
    for (let line = 0; line < 20; line += 1) assert.equal(put(slots, line), line);
    assert.equal(slots.usedCount, 20);
    put(slots, 20);
    assert.equal(slots.usedCount, 20);
    assert.equal(has(slots, 0), false);
    assert.equal(has(slots, 20), true);
    assert.equal(slots.linesOf(1), 20);
  });

  test('are given up early where there may be no more', () => {
    const slots = new LineSlots(20);
    assert.equal(slots.take(no), -1);
    put(slots, 0);
    const slot = slots.take(no);
    assert.equal(slot, 0);
    assert.equal(has(slots, 0), false);
    slots.giveBack(slot);
    assert.equal(slots.usedCount, 0);
    assert.equal(slots.take(no), 0, 'free ones first');
  });

  test('are free again when their line is dropped', () => {
    const slots = new LineSlots(4);
    const [first] = [put(slots, 0), put(slots, 1)];
    slots.drop(first);
    slots.drop(first);
    assert.deepEqual([slots.usedCount, slots.valid(first), slots.linesOf(1)], [1, 0, 1]);
    assert.equal(put(slots, 2), first);
    assert.equal(put(slots, 3), 2);
  });

  test('are never handed out while they are pinned', () => {
    const slots = new LineSlots(16);
    for (let line = 0; line < 16; line += 1) put(slots, line);
    slots.pin(3);
    slots.pin(3);
    for (let line = 16; line < 200; line += 1) assert.notEqual(put(slots, line), 3);
    assert.equal(slots.find(1, 1, 1, 3), 3);
    slots.unpin(3);
    for (let slot = 0; slot < 16; slot += 1) if (slot !== 3) slots.pin(slot);
    assert.equal(slots.take(yes), -1, 'every slot is pinned');
    slots.unpin(7);
    assert.equal(slots.take(yes), 7);
  });

  test('dropped while they are pinned are free with the last reader', () => {
    const slots = new LineSlots(16);
    const slot = put(slots, 0);
    slots.pin(slot);
    slots.pin(slot);
    slots.drop(slot);
    assert.equal(has(slots, 0), false);
    assert.equal(slots.usedCount, 1);
    assert.notEqual(put(slots, 1), slot);
    slots.unpin(slot);
    assert.notEqual(put(slots, 2), slot);
    slots.unpin(slot);
    assert.equal(put(slots, 3), slot);
    assert.throws(() => slots.unpin(slot), InvariantError);
  });

  test('keep a line that was read again, not one that was read piece by piece', () => {
    for (const isAgain of [true, false]) {
      const slots = new LineSlots(20);
      put(slots, 0);
      for (let part = 0; part < 16; part += 1) slots.noteRead(0, 1 << part);
      if (isAgain) slots.noteRead(0, 1 << 4);
      for (let line = 1; line < 40; line += 1) put(slots, line);
      assert.equal(has(slots, 0), isAgain);
    }
  });

  test('count a second pass in pieces as one use', () => {
    const slots = new LineSlots(20);
    const slot = put(slots, 0);
    for (let pass = 0; pass < 2; pass += 1)
      for (let part = 0; part < 16; part += 1) slots.noteRead(slot, 1 << part);
    // One use brings it into the main queue, and nothing more: it is the next to leave that.
    for (let line = 1; line < 40; line += 1) put(slots, line);
    assert.ok(has(slots, 0));
    for (let line = 100; line < 130; line += 1) {
      const taken = put(slots, line);
      slots.noteRead(taken, 1);
      slots.noteRead(taken, 1);
    }
    assert.equal(has(slots, 0), false);
  });

  test('forget an object step by step', () => {
    const slots = new LineSlots(100);
    for (let line = 0; line < 50; line += 1) {
      put(slots, line, 1);
      put(slots, line, 2);
    }
    slots.pin(0);
    let from = 0;
    let steps = 1;
    for (; slots.dropObject(1, from, 30); from += 30) steps += 1;
    assert.equal(steps, 4);
    assert.deepEqual([slots.linesOf(1), slots.linesOf(2), slots.usedCount], [0, 50, 51]);
    slots.unpin(0);
    assert.equal(slots.usedCount, 50);
  });

  test('are restored where they were, with those between them free', () => {
    const slots = new LineSlots(10);
    for (const slot of [2, 5]) {
      slots.takeNext(slot);
      slots.put(slot, 1, 1, 1, slot, all);
    }
    assert.throws(() => slots.takeNext(4), InvariantError);
    const taken = Array.from({ length: 8 }, (_, index) => put(slots, 100 + index));
    assert.deepEqual(
      taken.sort((left, right) => left - right),
      [0, 1, 3, 4, 6, 7, 8, 9],
    );
    assert.ok(has(slots, 2) && has(slots, 5));
  });

  test('agree with a plain map under random changes', () => {
    const seed = 11;
    const random = seededRandom(seed);
    const below = (bound: number) => Math.floor(random.fraction() * bound);
    const slots = new LineSlots(24);
    const lines = new Map<number, number>();
    const pins = new Map<number, number>();
    for (let step = 0; step < 30_000; step += 1) {
      const line = below(80);
      const slot = slots.find(1, 1, 1, line);
      if (slot >= 0) assert.equal(lines.get(slot), line, `seed ${seed} step ${step}`);
      const what = random.fraction();
      if (slot < 0 && what < 0.5) {
        const taken = slots.take(yes);
        if (taken < 0) assert.equal(pins.size, 24);
        else {
          assert.ok(!pins.has(taken), `seed ${seed} step ${step}: slot ${taken} is pinned`);
          slots.put(taken, 1, 1, 1, line, all);
          lines.set(taken, line);
        }
      } else if (slot >= 0 && what < 0.1) {
        slots.drop(slot);
        lines.delete(slot);
      } else if (slot >= 0 && what < 0.6) slots.noteRead(slot, 1 << below(16));
      else if (slot >= 0 && what < 0.8) {
        slots.pin(slot);
        pins.set(slot, (pins.get(slot) ?? 0) + 1);
      } else if (pins.size > 0) {
        const [pinned, count] = [...pins][below(pins.size)] as [number, number];
        slots.unpin(pinned);
        if (count === 1) pins.delete(pinned);
        else pins.set(pinned, count - 1);
      }
      // Slots that the policy took lost their lines.
      for (const [held, of] of lines) if (slots.find(1, 1, 1, of) !== held) lines.delete(held);
      assert.equal(slots.linesOf(1), lines.size, `seed ${seed} step ${step}`);
      const dropped = [...pins.keys()].filter((pinned) => !lines.has(pinned)).length;
      assert.equal(slots.usedCount, lines.size + dropped, `seed ${seed} step ${step}`);
    }
  });
});
