/** Whether a mount may have a ring, with how many slots, and what an administrator is told. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { initFlag2 } from '../../../src/format/fuse/protocol.ts';
import { errno } from '../../../src/frontend/fuse/errno.ts';
import { LockWaits } from '../../../src/frontend/fuse/lock-waits.ts';
import { negotiate } from '../../../src/frontend/fuse/negotiation.ts';
import type { RingPlan } from '../../../src/frontend/fuse/ring-plan.ts';
import { planRing, whyRefused } from '../../../src/frontend/fuse/ring-plan.ts';

const on = (processors: string | undefined) => ({ enableUring: 'Y\n', processors });

function whyNot(plan: RingPlan | string): string {
  assert.ok(typeof plan === 'string', 'there is a plan');
  return plan;
}

describe('a ring', () => {
  test('has slots for each processor that the machine may have', () => {
    assert.deepEqual(planRing(on('0-1\n'), 128), { queues: 2, slotsEach: 64 });
    assert.deepEqual(planRing(on('0'), 128), { queues: 1, slotsEach: 128 });
    assert.deepEqual(planRing(on('0-2,8-9,16'), 200), { queues: 6, slotsEach: 34 });
  });

  test('lets one processor have many requests under way, but no more than the mount', () => {
    assert.deepEqual(planRing(on('0-63'), 128), { queues: 64, slotsEach: 32 });
    assert.deepEqual(planRing(on('0-63'), 8), { queues: 64, slotsEach: 8 });
  });

  test('is not planned where the processors are unknown or too many', () => {
    for (const processors of ['0-255', '0-1,4-9'])
      assert.equal(typeof planRing(on(processors), 8), 'object', processors);
    for (const processors of ['0-256', '', '1-0', '0-', 'x', '0,,1', '0-1-2', undefined])
      assert.match(whyNot(planRing(on(processors), 8)), /1 to 256 processors/, processors);
  });

  test('that an old kernel has not, or that is switched off, is explained with what to do', () => {
    const plan = (enableUring?: string) => planRing({ enableUring, processors: '0-1' }, 128);
    assert.match(whyNot(plan()), /Linux 6\.14/);
    assert.match(
      whyNot(plan('N\n')),
      /switched off.*`echo Y > \/sys\/module\/fuse\/parameters\/enable_uring` as root/,
    );
  });

  test('that is refused is explained with the reason', () => {
    assert.match(whyRefused(errno.EPERM), /`sysctl -w kernel\.io_uring_disabled=0` as root/);
    assert.match(whyRefused(errno.ENOMEM), /ENOMEM/);
  });

  test('is asked for in the handshake only where it is wanted and offered', () => {
    const offer = { major: 7, minor: 45, flags: 0, flags2: initFlag2.overIoUring };
    const flags = (ring: boolean, flags2 = offer.flags2) => {
      const wanted = { requestsMax: 8, locks: 'served', ring } as const;
      const reply = negotiate({ ...offer, flags2 }, wanted);
      assert.ok(typeof reply === 'object');
      return reply.flags2;
    };
    assert.equal(flags(true), initFlag2.overIoUring);
    assert.equal(flags(false), 0);
    assert.equal(flags(true, 0), 0);
  });
});

test('waits for locks leave slots to who gives locks back, also when there are fewer', async () => {
  const waits = new LockWaits(8);
  const ended: number[] = [];
  const wait = (unique: bigint) =>
    waits
      .run(unique, (signal) => new Promise((_, fail) => signal.addEventListener('abort', fail)))
      .then((result) => void ended.push(result));
  waits.narrow(2);
  const first = [wait(1n), wait(2n)];
  await wait(3n);
  assert.deepEqual(ended, [-errno.ENOLCK]);
  waits.narrow(8);
  await wait(4n);
  waits.end();
  await Promise.all(first);
  assert.deepEqual(ended, [-errno.ENOLCK, -errno.ENOLCK, -errno.ENOTCONN, -errno.ENOTCONN]);
});
