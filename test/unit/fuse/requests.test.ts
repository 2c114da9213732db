/** Hostile and truncated requests: answered with an error, never a crash, never past their end. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isStorageError } from '../../../src/core/errors.ts';
import { RequestReader } from '../../../src/format/fuse/requests.ts';
import { handlers } from '../../../src/frontend/fuse/handlers.ts';
import { errno, toErrno } from '../../../src/frontend/fuse/errno.ts';
import { StorageError } from '../../../src/core/errors.ts';
import type { Ino } from '../../../src/core/units.ts';
import type { FileSystem } from '../../../src/ports/file-system.ts';

const slotBytes = 8192;

/** A file system that knows nothing: every call fails as POSIX says. */
const emptyFileSystem = new Proxy({} as FileSystem, {
  get: () => () => Promise.reject(new StorageError('not_found', 'nothing is here')),
});

async function answer(opcode: number, body: Uint8Array, length: number): Promise<number> {
  const memory = new ArrayBuffer(slotBytes * 2);
  const bytes = new Uint8Array(memory);
  const view = new DataView(memory);
  view.setUint32(0, length, true);
  view.setUint32(4, opcode, true);
  view.setUint32(16, 1, true);
  bytes.set(body, 40);
  const request = new RequestReader(memory).at(0, slotBytes);
  const handler = handlers.get(opcode);
  if (!handler) return errno.enosys;
  const common = { fileSystem: emptyFileSystem, request, node: 1 as Ino, view, memory: bytes };
  try {
    await handler({ ...common, at: slotBytes, bytesMax: slotBytes, timeoutMs: 1000 });
    return 0;
  } catch (error) {
    assert.ok(isStorageError(error), String(error));
    return toErrno(error);
  }
}

describe('a FUSE request', () => {
  test('of any content is answered with an errno', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...handlers.keys()),
        fc.uint8Array({ maxLength: 300 }),
        fc.nat(260),
        async (opcode, body, cut) => {
          const code = await answer(opcode, body, 40 + Math.min(cut, body.length));
          assert.ok(code >= 0 && code < 200);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('that is shorter than its fields is not well formed', async () => {
    for (const opcode of [1, 4, 6, 8, 9, 12, 13, 14, 21, 22, 28, 35, 43, 45, 46])
      assert.equal(await answer(opcode, new Uint8Array(0), 40), errno.einval);
  });

  test('that claims more bytes than the slot has is refused', () => {
    const memory = new ArrayBuffer(slotBytes);
    new DataView(memory).setUint32(0, slotBytes + 1, true);
    assert.throws(
      () => new RequestReader(memory).at(0, slotBytes),
      (error) => isStorageError(error, 'invalid'),
    );
  });
});
