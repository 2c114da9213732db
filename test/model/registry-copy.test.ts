/**
 * Random changes of a registry while hosts copy it into a bucket that fails, and die one after
 * another: whenever somebody looks, the copy is a state that the registry had as a whole, it never
 * goes back, and once it is left in peace it is the newest.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/platform/random.ts';
import { copyDelayMs, CopyWorld } from '../support/copy-world.ts';

const prefixes = ['i', 'd', 'x', 'o', 'hf', 'hv', 't', 'H', 'u', 'zz'];
const keysOfEach = 60;

/** Gives how many pieces behind their first one the bases have that are left. */
async function life(seed: number): Promise<number> {
  const random = seededRandom(seed);
  const below = (bound: number) => Math.floor(random.fraction() * bound);
  const world = new CopyWorld();
  await world.open();
  const randomKey = () => `${prefixes[below(prefixes.length)]}${below(keysOfEach)}`;
  /** Sometimes large, so that a base has several pieces, and changes are written early. */
  const randomValue = () =>
    below(5) === 0 ? undefined : new Uint8Array(below(8) === 0 ? 40_000 : 50).fill(below(256));
  const change = async () => {
    const keys = [...new Set(Array.from({ length: 1 + below(8) }, randomKey))];
    await world.change(...keys.map((key) => [key, randomValue()] as const));
  };
  for (let count = 0; count < 200; count += 1) await change();
  let host = world.join('a');
  let reached = 0;
  for (let round = 0; round < 8; round += 1) {
    host.faults.choose = () => (below(20) === 0 ? 'before' : below(20) === 0 ? 'after' : 'none');
    // While a blob is on its way, the registry changes.
    host.faults.delay = async (operation) => {
      if (operation === 'put') for (let count = below(4); count > 0; count -= 1) await change();
    };
    for (let step = below(40); step > 0; step -= 1) {
      for (let count = below(10); count > 0; count -= 1) await change();
      await world.clock.advance(below(copyDelayMs / 4));
      if (below(6) > 0) continue;
      const now = await world.check();
      assert.ok(now >= reached, `seed ${seed}: the copy went back`);
      reached = now;
    }
    host.faults.delay = undefined;
    if (below(2) === 0) {
      await world.kill(host);
      host = world.join(round % 2 === 0 ? 'b' : 'a');
    }
  }
  host.faults.choose = () => 'none';
  await change();
  await world.until('the copy is current', () => world.isCurrent());
  await world.during(host.copier.close());
  await world.close();
  return [...world.blobs.keys()].filter((key) => /base.*0[2-9]$/.test(key)).length;
}

const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 4 : 1;

test('the copy of a registry is always one of its states', async () => {
  let pieces = 0;
  for (let seed = first; seed < first + count; seed += 1) pieces += await life(seed);
  assert.ok(pieces > 0 || count === 1, 'no base has more than one piece');
});
