/** A folder of very many entries, through a mount. WHARF_LONG_TESTS=1 makes it 100,000. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Daemon } from '../support/daemon.ts';
import { cannotMount, sh } from '../support/playground.ts';

const entries = process.env['WHARF_LONG_TESTS'] === '1' ? 100_000 : 10_000;
const lookups = 1000;
/** A lookup is one short range of the registry, whatever the folder's size. */
const slowdownMax = 4;

async function millisecondsPerLookup(folder: string, count: number): Promise<number> {
  const began = performance.now();
  for (let index = 0; index < lookups; index += 1)
    await fs.stat(join(folder, String(1 + ((index * 7919) % count))));
  return (performance.now() - began) / lookups;
}

test(`a folder of ${entries} entries`, { skip: cannotMount }, async (t) => {
  // Nothing is believed for longer than a request, so that each lookup is one.
  await using daemon = new Daemon({ fuse: { timeout: '0ms' } });
  await daemon.start();
  const [large, small] = [join(daemon.mount, 'large'), join(daemon.mount, 'small')];
  for (const [folder, count] of [
    [large, entries],
    [small, 100],
  ] as const) {
    await fs.mkdir(folder);
    await sh('sh', '-c', `cd ${folder} && seq 1 ${count} | xargs -P 4 -n 500 touch`);
  }
  let isListing = true;
  const changing = (async () => {
    for (let index = 0; isListing; index += 1) {
      await fs.writeFile(join(large, `new${index}`), '');
      if (index % 2 === 0) await fs.unlink(join(large, `new${index}`));
    }
  })();
  for (let round = 0; round < 3; round += 1) {
    const listed = await fs.readdir(large);
    assert.equal(new Set(listed).size, listed.length, 'each name once');
    const kept = new Set(listed.filter((name) => !name.startsWith('new')));
    assert.equal(kept.size, entries, 'each name that was there all the time');
  }
  isListing = false;
  await changing;
  const slow = await millisecondsPerLookup(large, entries);
  const quick = await millisecondsPerLookup(small, 100);
  t.diagnostic(`a lookup takes ${(slow / quick).toFixed(2)} times that in a folder of 100`);
  assert.ok(slow <= slowdownMax * quick, `${slow} ms, not ${quick} ms`);
  await assert.rejects(fs.rmdir(large), { code: 'ENOTEMPTY' });
  await sh('rm', '-rf', large);
  assert.deepEqual(await fs.readdir(daemon.mount), ['small']);
});
