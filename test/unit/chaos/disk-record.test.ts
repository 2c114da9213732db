/** The chaos run's verifier: what it takes for broken, and what not. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DiskRecord, sectorBytes } from '../../chaos/disk-record.ts';

const sectors = 64;

/** A disk in memory that does what the test says. */
class World {
  readonly record = new DiskRecord(1, sectors);
  readonly bytes = Buffer.alloc(sectors * sectorBytes);

  write(first: number, count: number, then: 'acknowledge' | 'noteUnknown') {
    const write = this.record.ask(first, count);
    this.record[then](write);
    return write;
  }

  /** From its sector `from` on, as many as `count` says. */
  apply(
    write: { readonly version: number; readonly first: number; readonly count: number },
    { from = 0, count = write.count } = {},
  ): void {
    const bytes = this.record.bytesOf(write);
    const part = bytes.subarray(from * sectorBytes, (from + count) * sectorBytes);
    part.copy(this.bytes, (write.first + from) * sectorBytes);
  }

  look(): string[] {
    return this.record.look(0, this.bytes);
  }
}

describe('the record of a disk', () => {
  test('finds nothing wrong with what was written, and with nothing', () => {
    const world = new World();
    assert.deepEqual(world.look(), []);
    world.apply(world.write(3, 9, 'acknowledge'));
    assert.deepEqual(world.look(), []);
  });

  test('finds an acknowledged write that is lost, and says whether it was flushed', () => {
    const world = new World();
    world.write(3, 1, 'acknowledge');
    assert.match(world.look().join(), /^disk 1 sector 3: write 1, acknowledged, is lost: found 0$/);
    world.record.endFlush(world.record.beginFlush());
    assert.match(world.look().join(), /write 1, flushed, is lost/);
  });

  test('finds an old write that is back', () => {
    const world = new World();
    const old = world.write(0, 8, 'acknowledge');
    world.write(0, 8, 'acknowledge');
    world.apply(old);
    assert.match(world.look().join(), /write 2, acknowledged, is lost: found 1/);
  });

  test('lets a write without an answer be there or not; once it was found, it stays', () => {
    const world = new World();
    const unknown = world.write(8, 8, 'noteUnknown');
    assert.deepEqual(world.look(), []);
    const before = Buffer.from(world.bytes);
    world.apply(unknown);
    assert.deepEqual(world.look(), []);
    before.copy(world.bytes);
    assert.match(world.look().join(), /write 1, found before, is lost: found 0/);
  });

  test('finds a write without an answer that comes late, over a newer one', () => {
    const world = new World();
    const unknown = world.write(8, 8, 'noteUnknown');
    world.apply(world.write(8, 8, 'acknowledge'));
    assert.deepEqual(world.look(), []);
    world.apply(unknown);
    assert.match(world.look().join(), /write 2, acknowledged, is lost: found 1/);
  });

  test('finds a block that holds a part of a write alone', () => {
    const world = new World();
    const unknown = world.write(4, 12, 'noteUnknown');
    world.apply(unknown, { from: 4 });
    assert.deepEqual(world.look(), [], 'a block may be there without another');
    world.apply(unknown, { from: 2, count: 2 });
    assert.match(world.look().join(), /sector 6: write 1 is torn: sector 4 holds 0/);
  });

  test('finds bytes that nobody wrote, and those of another place', () => {
    const world = new World();
    world.apply(world.write(2, 2, 'acknowledge'));
    world.bytes.writeUInt8(7, 2 * sectorBytes + 100);
    assert.match(world.look().join(), /sector 2: its checksum is wrong/);
    world.bytes.copy(world.bytes, 2 * sectorBytes, 3 * sectorBytes, 4 * sectorBytes);
    assert.match(world.look().join(), /sector 2: it is sector 3 of disk 1/);
  });

  test('finds a snapshot that is older than its order, or newer than its answer', () => {
    const world = new World();
    world.apply(world.write(0, 8, 'acknowledge'));
    const [sure, { lastVersion }] = [world.record.sure(), world.record];
    assert.deepEqual(world.record.lookAt(world.bytes, sure, lastVersion), []);
    const older = Buffer.alloc(world.bytes.length);
    assert.match(world.record.lookAt(older, sure, lastVersion).join(), /sector 0: 0, not 1..1/);
    world.apply(world.write(0, 8, 'acknowledge'));
    assert.match(world.record.lookAt(world.bytes, sure, lastVersion).join(), /2, not 1..1/);
  });

  test('gives a range to one at a time', () => {
    const { record } = new World();
    assert.ok(record.take(0, 8));
    assert.ok(!record.take(7, 2));
    record.release(0, 8);
    assert.ok(record.take(7, 2));
  });
});
