import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ino } from '../../../src/core/units.ts';
import { opcode } from '../../../src/format/fuse/protocol.ts';
import { foldersOf, HeldFolders } from '../../../src/frontend/fuse/held-folders.ts';

const settle = () => new Promise((resolve) => setImmediate(resolve));

test('a folder is free when all requests that the kernel has locked it for are answered', async () => {
  const folders = new HeldFolders();
  const [first, second] = [Promise.withResolvers<number>(), Promise.withResolvers<number>()];
  folders.hold([5 as Ino], first.promise);
  folders.hold([5 as Ino, 7 as Ino], second.promise);
  await folders.free(6 as Ino);
  const free: number[] = [];
  for (const folder of [5, 7]) void folders.free(folder as Ino).then(() => free.push(folder));
  first.resolve(0);
  await settle();
  assert.deepEqual(free, []);
  second.reject(new Error('a request that failed is answered as well'));
  await settle();
  assert.deepEqual(free, [5, 7]);
});

test('requests lock the folders whose names they look for or change', () => {
  const of = (code: number) =>
    foldersOf({ node: 5 as Ino, request: { opcode: code, u64: () => 7 } as never });
  assert.deepEqual(of(opcode.read), []);
  assert.deepEqual(of(opcode.getattr), []);
  assert.deepEqual(of(opcode.create), [5]);
  assert.deepEqual(of(opcode.lookup), [5]);
  assert.deepEqual(of(opcode.rename2), [5, 7]);
});
