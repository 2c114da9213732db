/**
 * A disk that comes back to a host: the segments in the cache there are right for ever, so the host
 * fetches what others have written meanwhile, and nothing else.
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { KiB, MiB } from '../../src/core/units.ts';
import type { Ready } from '../support/playground.ts';
import { cannotMount, Playground } from '../support/playground.ts';

const directFlag = 0o40000;
const diskBytes = 32 * MiB;
const partBytes = 256 * KiB;
/** Far from each other, so that none is read with another. */
const changedParts = [3, 40, 77, 127];
const changedBytes = changedParts.length * partBytes;
/** Pages of the map, indexes of segments, and that the cache fetches lines of 64 KiB. */
const besideBytes = 512 * KiB;

async function order(host: Ready, what: string): Promise<void> {
  const response = await fetch(`${host.admin}/v1/vdisk/${what}`, { method: 'POST' });
  assert.equal(response.status, 200, await response.text());
}

async function fetchedBytes(host: Ready): Promise<number> {
  const response = await fetch(`${host.admin}/v1/status`);
  return ((await response.json()) as { cache: { fetchedBytes: number } }).cache.fetchedBytes;
}

/** What all of it is, past the page cache, and how much of it the host fetched for that. */
async function readAll(host: Ready): Promise<{ content: Buffer; bytes: number }> {
  const before = await fetchedBytes(host);
  const content = Buffer.alloc(diskBytes);
  const file = await fs.open(join(host.mount, 'disk.raw'), fs.constants.O_RDONLY | directFlag);
  for (let at = 0; at < diskBytes; at += MiB) await file.read(content, at, MiB, at);
  await file.close();
  return { content, bytes: (await fetchedBytes(host)) - before };
}

/** Some parts of it, and all is on the backend afterwards. */
async function change(host: Ready, expected: Buffer): Promise<void> {
  const file = await fs.open(join(host.mount, 'disk.raw'), 'r+');
  for (const part of changedParts) {
    const at = part * partBytes;
    expected.fill(part, at, at + partBytes);
    await file.write(expected, at, partBytes, at);
  }
  await file.close();
  await order(host, 'sync?path=/disk.raw');
}

test('a volume that comes back is read from the cache, but for what has changed meanwhile', {
  skip: cannotMount,
}, async () => {
  await using playground = new Playground();
  await playground.start('--hosts', '2');
  const [a, b] = playground.hosts as [Ready, Ready];
  const expected = Buffer.alloc(diskBytes);
  for (let at = 0; at < diskBytes; at += 4 * KiB) expected.writeUInt32LE(at + 1, at);
  await fs.writeFile(join(a.mount, 'disk.raw'), expected);
  await order(a, 'sync?path=/disk.raw');
  const first = await readAll(a);
  assert.ok(first.content.equals(expected));
  assert.equal(first.bytes, 0);

  await order(a, 'move?path=/disk.raw&to=b');
  const cold = await readAll(b);
  assert.ok(cold.content.equals(expected));
  assert.ok(cold.bytes >= diskBytes, `b fetched ${cold.bytes}`);
  await change(b, expected);

  await order(a, 'move?path=/disk.raw&to=a');
  const back = await readAll(a);
  assert.ok(back.content.equals(expected));
  assert.ok(back.bytes >= changedBytes, `a fetched ${back.bytes}`);
  assert.ok(back.bytes <= changedBytes + besideBytes, `a fetched ${back.bytes}`);
});
