/** Without the addon: fuse-native mounts, node:fs does the I/O. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, Playground } from '../support/playground.ts';

test('a playground without the addon serves files and volumes, and says so', {
  skip: cannotMount,
}, async () => {
  process.env['WHARF_ADDON'] = 'off';
  await using playground = new Playground();
  const { mount, admin } = await playground.start();
  const status = (await (await fetch(`${admin}/v1/status`)).json()) as { transport: string };
  assert.match(status.transport, /^fuse-native \(no addon: /);
  assert.match(playground.log, /mounting with fuse-native/);
  const at = (...parts: string[]) => join(mount, ...parts);
  await fs.mkdir(at('vm1'));
  await fs.writeFile(at('vm1', 'vm.xml'), '<domain/>');
  await fs.rename(at('vm1', 'vm.xml'), at('vm1', 'vm1.xml'));
  await fs.symlink('vm1.xml', at('vm1', 'link'));
  const content = Buffer.alloc(5 * 2 ** 20, 'wharf');
  await fs.writeFile(at('vm1', 'disk.raw'), content);
  assert.equal(await fs.readFile(at('vm1', 'link'), 'utf8'), '<domain/>');
  assert.ok((await fs.readFile(at('vm1', 'disk.raw'))).equals(content));
  assert.equal(await playground.stop(), 0);
  delete process.env['WHARF_ADDON'];
  await playground.start();
  assert.ok((await fs.readFile(at('vm1', 'disk.raw'))).equals(content));
  assert.deepEqual((await fs.readdir(at('vm1'))).sort(), ['disk.raw', 'link', 'vm1.xml']);
});
