/** What is said to differ between two snapshots, held against their bytes. */

import assert from 'node:assert/strict';
import { blocksChecksum } from '../../src/format/increment.ts';
import type { Difference } from '../../src/volume/map-diff.ts';
import { compareMaps } from '../../src/volume/map-diff.ts';
import type { VolumeWorld } from './volume-world.ts';

const blockBytes = 4096;

export async function differencesOf(
  { driver, snapshots, id, checksum }: VolumeWorld,
  before: string,
  after: string,
): Promise<Difference[]> {
  const views = [
    await driver.view(id, await snapshots.get(id, before)),
    await driver.view(id, await snapshots.get(id, after)),
  ] as const;
  const found: Difference[] = [];
  let doneBytes = 0;
  const deps = { checksum, yieldTurn: () => Promise.resolve() };
  for await (const compared of compareMaps(deps, ...views)) {
    assert.ok(compared.doneBytes >= doneBytes);
    for (const { offset, length } of compared.differences)
      assert.ok(offset >= doneBytes && offset + length <= compared.doneBytes);
    doneBytes = compared.doneBytes;
    found.push(...compared.differences);
  }
  assert.equal(doneBytes, views[1].sizeBytes);
  for (const view of views) await view.close();
  return found;
}

/**
 * That they make `after` of `before`, in ascending order and without overlap, and tell what stood
 * there. Gives how many blocks they list, and how many of those were not changed.
 */
export function checkDifferences(
  { checksum }: VolumeWorld,
  found: readonly Difference[],
  before: Uint8Array,
  after: Uint8Array,
): { readonly blocks: number; readonly unchanged: number } {
  const made = new Uint8Array(after.length);
  made.set(before.subarray(0, after.length));
  const counts = { blocks: 0, unchanged: 0 };
  let end = 0;
  for (const { offset, length, what, before: was } of found) {
    assert.ok(offset >= end && length > 0 && offset % blockBytes === 0, `${offset} ${end}`);
    end = offset + length;
    const now = after.subarray(offset, end);
    assert.ok(what === 'data' || now.every((byte) => byte === 0));
    made.set(now, offset);
    const blocks = Math.ceil(length / blockBytes);
    const old = new Uint8Array(blocks * blockBytes);
    old.set(before.subarray(offset, offset + old.length));
    if (what === 'data') assert.equal(was, checksumOfBlocks(old));
    for (let at = 0; at < length; at += blockBytes)
      if (Buffer.compare(old.subarray(at, at + blockBytes), padded(now, at)) === 0)
        counts.unchanged += 1;
    counts.blocks += blocks;
  }
  assert.ok(Buffer.compare(made, after) === 0, 'a change is missing');
  return counts;

  function checksumOfBlocks(bytes: Uint8Array): number {
    const checksums = new Uint32Array(bytes.length / blockBytes);
    checksum.crc32cBlocks(bytes, blockBytes, checksums, 0);
    return blocksChecksum(checksums, checksum);
  }
}

function padded(bytes: Uint8Array, at: number): Uint8Array {
  const block = new Uint8Array(blockBytes);
  block.set(bytes.subarray(at, at + blockBytes));
  return block;
}
