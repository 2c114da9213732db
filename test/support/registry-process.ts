/**
 * Another process that uses a SQLite registry, for tests of several on one file:
 *   count FILE TIMES    counts by compare and swap, and tells its parent of each step
 *   fill FILE           writes until that fails; prints the code, and how much was written
 *   hold FILE TTL       holds the key `kheld` under a lease until it is killed
 */

import { setImmediate } from 'node:timers/promises';
import { isStorageError } from '../../src/core/errors.ts';
import { readBootId } from '../../src/platform/boot-id.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { Registry } from '../../src/ports/registry.ts';
import { SqliteRegistry } from '../../src/registry/sqlite-registry.ts';
import { withRetry } from '../../src/registry/with-retry.ts';
import { quietLog } from './quiet-log.ts';

const [what = '', path = '', amount = '0'] = process.argv.slice(2);
const clock = systemClock(undefined);
const deps = { clock, random: systemRandom(), log: quietLog() };
const sqlite = SqliteRegistry.open({ path, bootId: readBootId() }, clock);
const registry = withRetry(sqlite, deps, `process-${process.pid}`);

async function count(of: Registry, times: number): Promise<void> {
  const key = 'counter';
  for (let done = 0; done < times; ) {
    const found = await of.get(key);
    const value = Number(Buffer.from(found?.value ?? []).toString()) + 1;
    const outcome = await of.transact({
      compares: [found ? { key, is: 'at', revision: found.revision } : { key, is: 'absent' }],
      writes: [{ key, put: Buffer.from(String(value)) }],
    });
    if (!outcome.committed) continue;
    done += 1;
    process.send?.(value);
    await setImmediate();
  }
}

if (what === 'count') {
  await count(registry, Number(amount));
  await registry.close();
  process.disconnect();
} else if (what === 'fill') {
  for (let done = 0; ; done += 1) {
    const writes = [{ key: `k${done}`, put: Buffer.alloc(8192) }];
    try {
      await sqlite.transact({ compares: [], writes });
    } catch (error) {
      process.stdout.write(`${isStorageError(error) ? error.code : String(error)} ${done}\n`);
      break;
    }
  }
} else {
  const lease = await registry.grantLease(Number(amount));
  const writes = [{ key: 'kheld', put: Buffer.from('1'), lease: lease.id }];
  await registry.transact({ compares: [], writes });
  process.send?.('held');
}
