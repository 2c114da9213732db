import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeProgress } from '../../../src/cli/progress.ts';
import { GiB, MiB } from '../../../src/core/units.ts';

test('progress says how much, how fast, and how long still', () => {
  const amounts = { doneBytes: 5 * GiB, totalBytes: 20 * GiB, copiedBytes: 100 * MiB };
  assert.equal(
    describeProgress({ ...amounts, elapsedMs: 10_000 }),
    '5.0 GiB of 20.0 GiB, 10.0 MiB/s, 30.0 s left',
  );
  assert.equal(
    describeProgress({ ...amounts, totalBytes: undefined, elapsedMs: 10_000 }),
    '5.0 GiB, 10.0 MiB/s',
  );
  assert.equal(
    describeProgress({ ...amounts, doneBytes: 0, copiedBytes: 0, elapsedMs: 0 }),
    '0 B of 20.0 GiB, 0 B/s',
  );
});
