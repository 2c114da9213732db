import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../../src/platform/random.ts';
import { SimulatedClock } from '../../src/platform/simulated-clock.ts';
import type { Registry } from '../../src/ports/registry.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../src/registry/memory-store.ts';
import { SqliteRegistry } from '../../src/registry/sqlite-registry.ts';
import { withRetry } from '../../src/registry/with-retry.ts';
import { type Fault, faultyRegistry, impatientClock } from '../support/faulty-registry.ts';
import { quietLog } from '../support/quiet-log.ts';
import { registrySuite } from './registry.ts';
import type { RegistryWorld } from './registry-world.ts';

/** Of the changes of so many transactions none is kept. */
const forgottenBehind = 2 * 2048;

function worldOf(
  clock: SimulatedClock,
  open: (name: string) => Registry,
  dispose: () => void = () => undefined,
): RegistryWorld {
  const [registry, other, writer] = [open('a'), open('b'), open('c')];
  return {
    ...{ registry, other, clock, ttlMs: 600 },
    pass: (ms) => clock.advance(ms),
    async compact() {
      const one = { compares: [], writes: [{ key: 'kcompact', put: new Uint8Array(1) }] };
      for (let done = 0; done <= forgottenBehind; done += 64) {
        await Promise.all(Array.from({ length: 64 }, () => writer.transact(one)));
        await clock.advance(15);
      }
    },
    async [Symbol.asyncDispose]() {
      for (const opened of [registry, other, writer]) await opened.close();
      dispose();
    },
  };
}

registrySuite('memory', async () => {
  const clock = new SimulatedClock();
  const store = new MemoryStore(clock);
  return worldOf(clock, () => new MemoryRegistry(clock, store));
});

registrySuite('SQLite', async () => {
  const clock = new SimulatedClock();
  const folder = mkdtempSync(join(tmpdir(), 'wharf-registry-'));
  const file = { path: join(folder, 'registry.sqlite'), bootId: 'one' };
  const open = () => SqliteRegistry.open(file, clock);
  return worldOf(clock, open, () => rmSync(folder, { recursive: true }));
});

registrySuite('what waits for a faulty registry', async () => {
  const clock = new SimulatedClock();
  const store = new MemoryStore(clock);
  const random = seededRandom(1);
  const faults: readonly Fault[] = ['refused', 'lost', 'done', 'late'];
  const choose = (): Fault =>
    random.fraction() < 0.7 ? 'none' : (faults[Math.floor(random.fraction() * 4)] ?? 'none');
  return worldOf(clock, (name) => {
    const inner = faultyRegistry(new MemoryRegistry(clock, store), choose);
    return withRetry(inner, { clock: impatientClock(clock), random, log: quietLog() }, name);
  });
});
