import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { openVpool } from '../../../src/registry/vpool-record.ts';

test('a registry keeps what its vPool is, and refuses to be another one', async () => {
  const registry = new MemoryRegistry(new SimulatedClock());
  const [first, second] = await Promise.all([
    openVpool(registry, seededRandom(1), 'demo'),
    openVpool(registry, seededRandom(2), 'demo'),
  ]);
  assert.deepEqual(first, second);
  assert.deepEqual(await openVpool(registry, seededRandom(3), 'demo'), first);
  await assert.rejects(
    openVpool(registry, seededRandom(4), 'other'),
    /vpool: found other; allowed is demo/,
  );
});
