/** What the kernel sends: whole requests to the handlers that serve them. */

import assert from 'node:assert/strict';
import { decodeInit } from '../../../src/format/fuse/init.ts';
import { decodeLock } from '../../../src/format/fuse/locks.ts';
import { headerAt, inHeaderBytes, opcode } from '../../../src/format/fuse/protocol.ts';
import { RequestReader } from '../../../src/format/fuse/requests.ts';
import { replyBytesMax, slotBytes } from '../../../src/frontend/fuse/call.ts';
import { rootIno } from '../../../src/ports/file-system.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { body, FakeKernel } from '../../unit/fuse/calls.ts';
import type { Target } from '../target.ts';
import { viewOf } from '../target.ts';

const fileNode = 2;

function request(code: number, node: number, fields: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(inHeaderBytes + fields.length);
  const view = viewOf(bytes);
  view.setUint32(headerAt.length, bytes.length, true);
  view.setUint32(headerAt.opcode, code, true);
  view.setBigUint64(headerAt.node, BigInt(node), true);
  bytes.set(fields, inHeaderBytes);
  return bytes;
}

const inRoot = (code: number, ...fields: Parameters<typeof body>) =>
  request(code, rootIno, body(...fields));
const ofFile = (code: number, ...fields: Parameters<typeof body>) =>
  request(code, fileNode, body(...fields));

const handled = {
  lookup: inRoot(opcode.lookup, 'f'),
  getattr: ofFile(opcode.getattr, 0, 0, 0n),
  setattr: ofFile(opcode.setattr, 1 << 3, 0, 0n, 100n, ...Array.from({ length: 8 }, () => 7n)),
  symlink: inRoot(opcode.symlink, 's', 'target'),
  mknod: inRoot(opcode.mknod, 0o100644, 0, 0, 0, 'n'),
  mkdir: inRoot(opcode.mkdir, 0o755, 0, 'd'),
  unlink: inRoot(opcode.unlink, 'f'),
  rename: inRoot(opcode.rename, 1n, 'f', 'g'),
  rename2: inRoot(opcode.rename2, 1n, 1, 0, 'f', 'g'),
  link: inRoot(opcode.link, BigInt(fileNode), 'l'),
  open: ofFile(opcode.open, 0o1002, 0),
  read: ofFile(opcode.read, 0n, 2n, 4096, 0, 0n, 0, 0),
  write: ofFile(opcode.write, 0n, 3n, 4, 0, 0n, 0o2000, 0, Buffer.from('data')),
  release: ofFile(opcode.release, 1n, 0, 0, 0n),
  setxattr: ofFile(opcode.setxattr, 4, 0, 'user.a', Buffer.from('more')),
  getxattr: ofFile(opcode.getxattr, 100, 0, 'user.a'),
  listxattr: ofFile(opcode.listxattr, 100, 0),
  readdir: inRoot(opcode.readdir, 0n, 0n, 4096, 0, 0n, 0, 0),
  readdirplus: inRoot(opcode.readdirplus, 0n, 0n, 4096, 0, 0n, 0, 0),
  create: inRoot(opcode.create, 2, 0o100644, 0, 0, 'c'),
  fallocate: ofFile(opcode.fallocate, 0n, 0n, 4096n, 1, 0),
  lseek: ofFile(opcode.lseek, 0n, 0n, 3, 0),
};

/** The answer, and what became of the file, where other bytes of the slot are `junk`. */
async function serve(input: Uint8Array, junk: number) {
  const fileSystem = new MemoryFileSystem();
  const owner = { uid: 1, gid: 1 };
  await fileSystem.make(rootIno, 'f', { type: 'file', mode: 0o644 }, owner);
  await fileSystem.write(fileNode as typeof rootIno, 0, Buffer.from('content'));
  const kernel = new FakeKernel(fileSystem);
  kernel.junk = junk;
  const view = viewOf(input);
  const { error, payload } = await kernel.ask(
    view.getUint32(headerAt.opcode, true),
    Number(view.getBigUint64(headerAt.node, true)),
    input.subarray(inHeaderBytes),
    // The kernel never claims more than it gives.
    Math.min(view.getUint32(headerAt.length, true), input.length),
  );
  assert.ok(error >= 0 && error < 200 && payload.length <= replyBytesMax + 4096);
  const content = Buffer.alloc(64);
  if (fileSystem.inodeCount > 1) await fileSystem.read(fileNode as typeof rootIno, 0, content);
  return { error, payload: payload.toString('hex'), content: content.toString('hex') };
}

function tellLength(input: Uint8Array): void {
  if (input.length >= inHeaderBytes) viewOf(input).setUint32(headerAt.length, input.length, true);
}

const requests: Target = {
  ...{ name: 'fuse-request', kind: 'bytes', refuses: [] },
  testInputs: 300,
  // Two slots, and their answers as text.
  roomBytes: 10 * slotBytes,
  samples: handled,
  repair: tellLength,
  async decode(input) {
    if (input.length < inHeaderBytes) return false;
    const answer = await serve(input, 0xa5);
    assert.deepEqual(await serve(input, 0x5a), answer, 'nothing behind a request matters');
    return answer.error === 0;
  },
};

const fields: Target = {
  ...{ name: 'fuse-fields', kind: 'bytes', refuses: ['invalid'] },
  samples: {
    init: request(opcode.init, 0, body(7, 41, 131_072, 0xffff_ffff, 0xff, ...Array(11).fill(0))),
    older: request(opcode.init, 0, body(7, 31, 131_072, 0x3ff)),
    lock: ofFile(opcode.setlk, 1n, 2n, 0n, 99n, 1, 77, 0, 0),
    flock: ofFile(opcode.setlkw, 1n, 2n, 0n, 2n ** 63n - 1n, 2, 77, 1, 0),
  },
  repair: tellLength,
  decode(input) {
    const memory = new Uint8Array(Math.max(input.length, inHeaderBytes));
    memory.set(input);
    const reader = new RequestReader(viewOf(memory), memory, 0, memory.length);
    reader.begin();
    if (reader.opcode === opcode.init) {
      const { flags2, flags } = decodeInit(reader);
      assert.ok(flags2 === 0 || flags < 0 || flags >= 1 << 30);
      return true;
    }
    const { wanted } = decodeLock(reader);
    assert.ok(wanted.start <= wanted.end && wanted.end < 2n ** 63n);
    return true;
  },
};

export const fuse: readonly Target[] = [requests, fields];
