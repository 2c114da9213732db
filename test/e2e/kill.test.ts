/**
 * kill -9 of the daemon under load, over and over: what was flushed is there (invariant 3), and
 * what was acknowledged as well, because a process that dies takes no page cache with it.
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { seededRandom } from '../../src/platform/random.ts';
import { cannotMount, Playground } from '../support/playground.ts';

const rounds = 25;
const blockBytes = 4096;
const blocks = 4096;
const direct = 0o40000;

/** A block that says which it is and which write made it. */
function stamp(block: number, version: number): Buffer {
  const bytes = Buffer.alloc(blockBytes, version & 0xff);
  bytes.writeUInt32LE(block, 0);
  bytes.writeUInt32LE(version, 4);
  bytes.writeUInt32LE(version, blockBytes - 4);
  return bytes;
}

function versionIn(bytes: Buffer, block: number): number {
  const version = bytes.readUInt32LE(4);
  if (version === 0) return bytes.every((byte) => byte === 0) ? 0 : -1;
  return bytes.equals(stamp(block, version)) ? version : -1;
}

test(`a volume survives ${rounds} kills under load`, { skip: cannotMount }, async () => {
  await using playground = new Playground();
  const seed = Number(process.env['WHARF_SEED'] ?? Math.floor(Math.random() * 1e9));
  const random = seededRandom(seed);
  /** By block: the last acknowledged version, and the last that was asked for. */
  const acknowledged = new Uint32Array(blocks);
  const asked = new Uint32Array(blocks);
  let version = 0;
  for (let round = 0; round < rounds; round += 1) {
    const { pid, mount } = await playground.start();
    const file = await fs.open(
      join(mount, 'disk.raw'),
      fs.constants.O_RDWR | fs.constants.O_CREAT | direct,
    );
    if (round === 0) await file.truncate(blocks * blockBytes);
    const found = Buffer.alloc(blocks * blockBytes);
    await file.read(found, 0, found.length, 0);
    for (let block = 0; block < blocks; block += 1) {
      const at = block * blockBytes;
      const is = versionIn(found.subarray(at, at + blockBytes), block);
      const isAllowed = is >= (acknowledged[block] as number) && is <= (asked[block] as number);
      assert.ok(
        isAllowed,
        `seed ${seed} round ${round} block ${block}: ${is}, not ${acknowledged[block]}..${asked[block]}`,
      );
      acknowledged[block] = is;
      asked[block] = is;
    }
    const deadline = performance.now() + 150 + random.fraction() * 350;
    let isAlive = true;
    const busy = new Set<number>();
    const writer = async () => {
      while (isAlive) {
        const block = Math.floor(random.fraction() * blocks);
        if (busy.has(block)) continue;
        busy.add(block);
        version += 1;
        const mine = version;
        asked[block] = mine;
        try {
          await file.write(stamp(block, mine), 0, blockBytes, block * blockBytes);
          acknowledged[block] = mine;
          if (random.fraction() < 0.02) await file.datasync();
        } catch {
          return;
        }
        busy.delete(block);
      }
    };
    const writers = Array.from({ length: 8 }, writer);
    await new Promise((resolve) => setTimeout(resolve, deadline - performance.now()));
    process.kill(pid, 'SIGKILL');
    isAlive = false;
    await Promise.all(writers);
    await file.close().catch(() => {});
    await playground.ended;
  }
});
