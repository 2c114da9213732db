/** A guest that moves to another host while it writes: its disk follows it, and nothing is lost. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotBoot, guestArguments, roundSaid, stampLayout } from '../support/guest.ts';
import { LiveGuest } from '../support/live-guest.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

const { regions, regionBlocks, blockBytes } = stampLayout;
/** So many that each region is written again after the guest has moved. */
const roundsAtEach = 2 * regions;

const roundsIn = (console: string) => [...console.matchAll(roundSaid)].map(([, n]) => Number(n));

/** The round that wrote the region; every block has to say the same one, or the one under way. */
function checkRegion(region: number, bytes: Buffer, sure: number): void {
  for (let index = 0; index < regionBlocks; index += 1) {
    const text = bytes.toString('latin1', index * blockBytes, (index + 1) * blockBytes);
    const block = region * regionBlocks + index;
    const round = Number(text.slice(0, 8));
    const expected = [round, block].map((n) => String(n).padStart(8, '0')).join(' ');
    assert.equal(text, `${expected} ${String(round).padStart(4077)}\n`, `block ${block}`);
    assert.ok(round === sure || round === sure + regions, `block ${block}: ${round} for ${sure}`);
  }
}

test('a guest is migrated live, and its disk follows', {
  skip: cannotMount || cannotBoot,
}, async () => {
  await using playground = new Playground();
  await playground.start('--hosts', '2');
  const [a, b] = playground.hosts.map(({ mount }) => join(mount, 'vm.raw')) as [string, string];
  const ownerOf = async () => {
    const { admin } = playground.hosts[0] as { admin: string };
    const response = await fetch(`${admin}/v1/vdisk?path=/vm.raw`);
    return ((await response.json()) as { owner: string }).owner;
  };
  await sh('qemu-img', 'create', '-f', 'raw', a, '64M');
  const argv = [...guestArguments(playground.folder, 'stamp'), '-m', '128'];
  const drive = (file: string, aio: string) => [
    '-drive',
    `file=${file},format=raw,cache=none,aio=${aio},if=virtio`,
  ];
  const at = (name: string) => join(playground.folder, name);
  await using source = new LiveGuest({
    argv: [...argv, ...drive(a, 'native')],
    control: at('source.qmp'),
  });
  await source.until('rounds at a', () => roundsIn(source.console).length >= roundsAtEach);
  assert.equal(await ownerOf(), 'a');
  const incoming = `unix:${at('incoming')}`;
  await using target = new LiveGuest({
    argv: [...argv, ...drive(b, 'threads'), '-incoming', incoming],
    control: at('target.qmp'),
  });
  await target.execute('query-status');
  await source.execute('migrate', { uri: incoming });
  await source.until('migrated', async () => {
    const { status } = await source.execute<{ status?: string }>('query-migrate');
    assert.notEqual(status, 'failed', target.console);
    return status === 'completed';
  });
  await source.kill();
  await target.until('rounds at b', () => roundsIn(target.console).length >= roundsAtEach);
  await target.until('ownership at b', async () => (await ownerOf()) === 'b');
  const then = roundsIn(target.console).length;
  await target.until('rounds at the owner', () => roundsIn(target.console).length > then + regions);
  await target.kill();

  const said = source.console + target.console;
  assert.doesNotMatch(said, /FAIL/);
  const rounds = roundsIn(said);
  assert.deepEqual(
    rounds,
    rounds.map((_, index) => index + 1),
  );
  for (const path of [a, b]) {
    const bytes = await fs.readFile(path);
    for (let region = 0; region < regions; region += 1) {
      const sure = rounds.findLast((round) => round % regions === region) as number;
      const from = region * regionBlocks * blockBytes;
      checkRegion(region, bytes.subarray(from, from + regionBlocks * blockBytes), sure);
    }
  }
});
