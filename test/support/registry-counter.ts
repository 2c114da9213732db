/** Counts in a registry by compare and swap, and tells its parent of each step. */

import { setImmediate } from 'node:timers/promises';
import { SqliteRegistry } from '../../src/registry/sqlite-registry.ts';

const [path = '', times = '0'] = process.argv.slice(2);
const registry = SqliteRegistry.open(path);
const key = 'counter';
for (let done = 0; done < Number(times); ) {
  const found = await registry.get(key);
  const value = Number(Buffer.from(found?.value ?? []).toString()) + 1;
  const outcome = await registry.transact({
    compares: [found ? { key, is: 'at', revision: found.revision } : { key, is: 'absent' }],
    writes: [{ key, put: Buffer.from(String(value)) }],
  });
  if (!outcome.committed) continue;
  done += 1;
  process.send?.(value);
  await setImmediate();
}
await registry.close();
process.disconnect();
