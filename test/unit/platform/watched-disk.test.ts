import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { WatchedDisk } from '../../../src/platform/watched-disk.ts';
import { quietLog } from '../../support/quiet-log.ts';

const bytes = new Uint8Array(4096);

function watched() {
  const memory = new MemoryDisk();
  const log = quietLog();
  const disk = new WatchedDisk(memory, log);
  for (const folder of ['/one', '/two']) disk.makeFolder(folder);
  const errors = () => log.lines.filter(({ level }) => level === 'error');
  return { memory, disk, errors };
}

describe('an SSD that is watched', () => {
  test('tells of its first failed datasync, where, and what to do', async () => {
    const { memory, disk, errors } = watched();
    const file = disk.open('/one/file', 'create');
    file.write(0, [bytes]);
    await file.datasync();
    assert.equal(disk.failure, undefined);
    memory.faults.failingSyncs = 2;
    for (let attempt = 0; attempt < 2; attempt += 1)
      await assert.rejects(file.datasync(), (error) => isStorageError(error, 'failed'));
    assert.match(disk.failure ?? '', /^\/one\/file: .*EIO/);
    assert.deepEqual([disk.hasFailed('/one'), disk.hasFailed('/two')], [true, false]);
    assert.equal(errors().length, 1);
    assert.match(JSON.stringify(errors()), /\/one\/file.*restart/);
    // The device may say that all is well: what was lost is lost.
    await file.datasync();
    assert.ok(disk.failure);
  });

  test('has failed with a write as well', () => {
    const { memory, disk } = watched();
    const file = disk.open('/two/file', 'create');
    memory.faults.fails = (operation) => operation === 'write';
    assert.throws(() => file.write(0, [bytes]));
    assert.ok(disk.hasFailed('/two'));
  });

  test('has not failed for want of space, or of a file', () => {
    const { memory, disk, errors } = watched();
    const file = disk.open('/one/file', 'create');
    memory.faults.freeBytes = 0;
    assert.throws(
      () => file.allocate(0, 4096),
      (error) => isStorageError(error, 'no_space'),
    );
    assert.throws(
      () => file.write(0, [bytes]),
      (error) => isStorageError(error, 'no_space'),
    );
    assert.throws(() => disk.open('/one/none', 'existing'));
    assert.throws(() => disk.syncFolder('/none'));
    assert.equal(disk.failure, undefined);
    assert.deepEqual(errors(), []);
  });
});
