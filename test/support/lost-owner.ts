/** Owners that are lost between what they acknowledge and the flush of whoever was told. */

import assert from 'node:assert/strict';
import { isStorageError } from '../../src/core/errors.ts';
import { objectId } from '../../src/core/units.ts';
import type { DataObject } from '../../src/ports/data-object.ts';
import type { ObjectKind } from '../../src/ports/objects.ts';
import type { RoutedObject } from '../../src/router/routed-object.ts';
import type { WorldHost } from './cluster-world.ts';
import { ClusterWorld } from './cluster-world.ts';

export const id = objectId('5'.repeat(32));
export const blockBytes = 4096;
export const blocks = 4;
export const block = (value: number) => new Uint8Array(blockBytes).fill(value);
const soon = () => new Promise((resolve) => setTimeout(resolve, 5));
const lazy = { destageDelayMs: 3_600_000, cutBytes: 2 ** 30 };

export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 2000, 'never happened');
    await soon();
  }
}

/** Several records: a power cut is not likely to leave them all. */
export async function write(object: DataObject, value: number): Promise<void> {
  for (let index = 0; index < blocks; index += 1)
    await object.write(index * blockBytes, block(value));
}

export async function has(object: DataObject, value: number): Promise<boolean> {
  const into = new Uint8Array(blocks * blockBytes);
  const length = await object.read(0, into);
  return length === into.length && into.every((byte) => byte === value);
}

export const loss = 'changes that were acknowledged and not flushed are lost with host a';
export const isLoss = (error: unknown) => isStorageError(error, 'failed') && error.message === loss;

export async function assertLost(object: RoutedObject): Promise<void> {
  await assert.rejects(object.flush(), isLoss);
  await assertKept(object);
}

/** And the next flush is good again. */
export async function assertKept(object: RoutedObject): Promise<void> {
  await object.flush();
  await object.write(0, block(77));
  await object.flush();
}

/** `a` drives it, all of it flushed; `b` has it open. */
export async function forwarded(kind: ObjectKind = 'volume', leaseMs = 60_000) {
  const world = new ClusterWorld({ volumes: lazy, leaseMs });
  const [a, b] = [await world.host('a'), await world.host('b')];
  await a.router.create(id, kind);
  const atA = await a.router.open(id);
  await write(atA, 1);
  await atA.flush();
  const atB = await b.router.open(id);
  assert.ok(await has(atB, 1));
  return { world, a, b, atA, atB };
}

/** Ends the tenure of `a`, which comes back. */
export const restarted = {
  lost: async ({ world, a }: { world: ClusterWorld; a: WorldHost }) => {
    await a.cutPower(1);
    return world.host('a');
  },
  killed: async ({ world, a }: { world: ClusterWorld; a: WorldHost }) => {
    await a.kill();
    return world.host('a');
  },
};
export const stop = (...hosts: WorldHost[]) => Promise.all(hosts.map((host) => host.stop()));

/** `a` drives it, its copy is whole on `b` or `c`, and the other one has it open. */
export async function copied(mode: 'sync' | 'async') {
  const world = new ClusterWorld({ replica: mode, volumes: lazy, leaseMs: 1000 });
  const [a, b, c] = [await world.host('a'), await world.host('b'), await world.host('c')];
  await a.router.create(id, 'volume');
  const atA = await a.router.open(id);
  await write(atA, 1);
  await until(async () => typeof (await world.records.get(id)).tail === 'object');
  await atA.flush();
  const { tail } = await world.records.get(id);
  const [holder, user] = typeof tail === 'object' && tail.host === 'b' ? [b, c] : [c, b];
  const object = await user.router.open(id);
  return { world, a, holder, user, object };
}
