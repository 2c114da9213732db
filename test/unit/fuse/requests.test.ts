/** What FUSE requests of every kind are answered with; hostile ones with an errno, never a crash. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { StorageError } from '../../../src/core/errors.ts';
import type { Ino } from '../../../src/core/units.ts';
import { opcode } from '../../../src/format/fuse/protocol.ts';
import { handlers } from '../../../src/frontend/fuse/dispatch.ts';
import type { FileSystem } from '../../../src/ports/file-system.ts';
import { errno } from '../../../src/frontend/fuse/errno.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { body, FakeKernel } from './calls.ts';

const caller = { uid: 1, gid: 1 };

async function withFile(name = 'f') {
  const fileSystem = new MemoryFileSystem();
  const made = await fileSystem.make(1 as Ino, name, { type: 'file', mode: 0o644 }, caller);
  return { fileSystem, kernel: new FakeKernel(fileSystem), ino: made.ino };
}

/** The smallest body that is whole, of each request that has one. */
const whole = {
  [opcode.lookup]: body('f'),
  [opcode.setattr]: new Uint8Array(88),
  [opcode.symlink]: body('s', 't'),
  [opcode.mknod]: body(0o100644, 0, 0, 0, 'n'),
  [opcode.mkdir]: body(0o755, 0, 'd'),
  [opcode.unlink]: body('f'),
  [opcode.rmdir]: body('f'),
  [opcode.rename]: body(1n, 'f', 'g'),
  [opcode.rename2]: body(1n, 0, 0, 'f', 'g'),
  [opcode.link]: body(2n, 'l'),
  [opcode.open]: body(0, 0),
  [opcode.read]: body(0n, 0n, 4096, 0, 0n, 0, 0),
  [opcode.write]: body(0n, 0n, 4, 0, 0n, 0, 0, 1),
  [opcode.setxattr]: body(4, 0, 'user.a', 1),
  [opcode.getxattr]: body(0, 0, 'user.a'),
  [opcode.listxattr]: body(0, 0),
  [opcode.removexattr]: body('user.a'),
  [opcode.readdir]: body(0n, 0n, 4096, 0, 0n, 0, 0),
  [opcode.readdirplus]: body(0n, 0n, 4096, 0, 0n, 0, 0),
  [opcode.create]: body(0, 0o100644, 0, 0, 'c'),
  [opcode.fallocate]: body(0n, 0n, 4096n, 0, 0),
  [opcode.lseek]: body(0n, 0n, 3, 0),
};

/** Up to where a handler has to read: what is behind it may be missing. */
const unread: Readonly<Record<number, number>> = {
  [opcode.setattr]: 88,
  [opcode.read]: 20,
  [opcode.readdir]: 20,
  [opcode.readdirplus]: 20,
  [opcode.fallocate]: 4,
  [opcode.lseek]: 4,
  [opcode.listxattr]: 4,
};

describe('a FUSE request', () => {
  test('of any content is answered with an errno', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...handlers.keys(), 9, 53, 4096),
        fc.uint8Array({ maxLength: 300 }),
        fc.nat(400),
        fc.nat(3),
        async (code, fields, cut, node) => {
          const { kernel } = await withFile();
          const { error } = await kernel.ask(code, node, fields, Math.min(cut, fields.length + 40));
          assert.ok(error >= 0 && error < 200, `errno ${error}`);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('that is cut anywhere is refused, and changes nothing', async () => {
    for (const [code, fields] of Object.entries(whole)) {
      const needed = fields.length - (unread[Number(code)] ?? 0);
      for (let length = 0; length < 40 + needed; length += 1) {
        const { fileSystem, kernel } = await withFile();
        const { error } = await kernel.ask(Number(code), 1, fields, length);
        assert.equal(error, errno.EINVAL, `opcode ${code} cut to ${length} bytes`);
        assert.equal(fileSystem.inodeCount, 2);
      }
    }
  });

  test('that claims more bytes than a slot has is refused', async () => {
    const { kernel } = await withFile();
    const { error } = await kernel.ask(opcode.lookup, 1, body('f'), 2 ** 21);
    assert.equal(error, errno.EINVAL);
  });

  test('with an offset beyond exact numbers is refused', async () => {
    const { kernel, ino } = await withFile();
    const fields = body(0n, 2n ** 60n, 4096, 0, 0n, 0, 0);
    assert.equal((await kernel.ask(opcode.read, ino, fields)).error, errno.EINVAL);
  });

  test('that nobody serves is answered with ENOSYS', async () => {
    const { kernel } = await withFile();
    for (const code of [opcode.poll, opcode.copyFileRange, 48, 51, 52, 4096])
      assert.equal((await kernel.ask(code, 1, body())).error, errno.ENOSYS);
  });
});

describe('a write', () => {
  test('with O_APPEND goes to the end, but not one from the page cache', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    fileSystem.write(ino, 0, Buffer.from('abc'));
    const append = 0o2000;
    await kernel.ask(opcode.write, ino, body(0n, 0n, 4, 0, 0n, append, 0, Buffer.from('defg')));
    await kernel.ask(opcode.write, ino, body(0n, 0n, 1, 1, 0n, append, 0, Buffer.from('A')));
    const into = Buffer.alloc(16);
    assert.equal(await fileSystem.read(ino, 0, into), 7);
    assert.equal(into.toString('latin1', 0, 7), 'Abcdefg');
  });

  test('of an unprivileged user drops set-id bits', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    await fileSystem.change(ino, { mode: 0o6755 });
    const killSetId = 4;
    const fields = body(0n, 0n, 1, killSetId, 0n, 0, 0, Buffer.from('x'));
    const { payload } = await kernel.ask(opcode.write, ino, fields);
    assert.equal(payload.readUInt32LE(0), 1);
    assert.equal(fileSystem.attributes(ino).mode, 0o755);
  });
});

describe('opening', () => {
  const flagsOf = (payload: Buffer) => payload.readUInt32LE(8);

  test('a volume bypasses the page cache and lets writes run side by side', async () => {
    const { kernel, ino } = await withFile('disk.raw');
    const { payload } = await kernel.ask(opcode.open, ino, body(0, 0));
    assert.equal(flagsOf(payload), 1 | 64);
  });

  test('a file keeps its pages only while it is what it was at the last opening', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    const open = async () => flagsOf((await kernel.ask(opcode.open, ino, body(0, 0))).payload);
    assert.equal(await open(), 0);
    assert.equal(await open(), 2);
    fileSystem.write(ino, 0, Buffer.from('changed behind the kernel'));
    assert.equal(await open(), 0);
    assert.equal(await open(), 2);
  });

  test('what another host has deleted makes the kernel look its name up again', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    await fileSystem.unlink(1 as Ino, 'f');
    assert.equal((await kernel.ask(opcode.open, ino, body(0, 0))).error, errno.ESTALE);
  });

  test('that fails to truncate leaves nothing open', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    fileSystem.change = () => Promise.reject(new StorageError('no_space', 'full'));
    const { error } = await kernel.ask(opcode.open, ino, body(0o1000, 0));
    assert.equal(error, errno.ENOSPC);
    assert.equal(fileSystem.openCount(ino), 0);
  });

  test('a name that another host has just made opens it, unless O_EXCL is asked for', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    const exclusive = 0o200;
    const refused = await kernel.ask(opcode.create, 1, body(exclusive, 0o100644, 0, 0, 'f'));
    assert.equal(refused.error, errno.EEXIST);
    const { error, payload } = await kernel.ask(opcode.create, 1, body(0, 0o100644, 0, 0, 'f'));
    assert.equal(error, 0);
    assert.equal(payload.readBigUInt64LE(0), BigInt(ino));
    assert.equal(fileSystem.openCount(ino), 1);
  });
});

describe('a listing', () => {
  async function names(kernel: FakeKernel, bytesMax: number): Promise<string[]> {
    const found: string[] = [];
    for (let after = 0n; ; ) {
      const fields = body(0n, after, bytesMax, 0, 0n, 0, 0);
      const { error, payload } = await kernel.ask(opcode.readdir, 1, fields);
      assert.equal(error, 0);
      if (payload.length === 0) return found;
      for (let at = 0; at < payload.length; ) {
        const length = payload.readUInt32LE(at + 16);
        found.push(payload.toString('latin1', at + 24, at + 24 + length));
        after = payload.readBigUInt64LE(at + 8);
        at += Math.ceil((24 + length) / 8) * 8;
      }
    }
  }

  test('gives every entry once, whatever the room for a reply', async () => {
    const { fileSystem, kernel } = await withFile();
    for (let index = 0; index < 300; index += 1)
      await fileSystem.make(
        1 as Ino,
        `${'n'.repeat((index * 7) % 250)}${index}`,
        { type: 'file', mode: 0o644 },
        caller,
      );
    const all = await names(kernel, 65536);
    assert.equal(all.length, 303);
    assert.equal(new Set(all).size, 303);
    for (const room of [288, 512, 4096]) assert.deepEqual(await names(kernel, room), all);
  });

  test('without room for one entry is refused, because an empty one would be the end', async () => {
    const { kernel } = await withFile();
    const fields = body(0n, 0n, 24, 0, 0n, 0, 0);
    assert.equal((await kernel.ask(opcode.readdir, 1, fields)).error, errno.EINVAL);
    assert.equal((await kernel.ask(opcode.readdirplus, 1, fields)).error, errno.EINVAL);
  });

  test('with attributes skips those of what went meanwhile', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    const attributes = fileSystem.attributes.bind(fileSystem);
    fileSystem.attributes = (asked) => {
      if (asked === ino) throw new StorageError('not_found', 'gone');
      return attributes(asked);
    };
    const { payload } = await kernel.ask(opcode.readdirplus, 1, body(0n, 0n, 4096, 0, 0n, 0, 0));
    const third = 2 * 160;
    assert.equal(payload.readBigUInt64LE(third), 0n);
    assert.equal(payload.toString('latin1', third + 128 + 24, third + 128 + 25), 'f');
  });
});

describe('an extended attribute', () => {
  test('is sized first, then read, and does not fit into less', async () => {
    const { kernel, ino } = await withFile();
    const value = Buffer.from('a value');
    const set = await kernel.ask(opcode.setxattr, ino, body(7, 0, 'user.note', value));
    assert.equal(set.error, 0);
    const ask = (room: number) => kernel.ask(opcode.getxattr, ino, body(room, 0, 'user.note'));
    assert.equal((await ask(0)).payload.readUInt32LE(0), 7);
    assert.deepEqual((await ask(7)).payload, value);
    assert.equal((await ask(6)).error, errno.ERANGE);
    const listed = await kernel.ask(opcode.listxattr, ino, body(100, 0));
    assert.equal(listed.payload.toString('latin1'), 'user.note\0');
  });
});

describe('fallocate', () => {
  test('serves plain, punching and zeroing, and no other mode', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    const ask = (mode: number) => kernel.ask(opcode.fallocate, ino, body(0n, 0n, 8192n, mode, 0));
    assert.equal((await ask(1)).error, 0);
    assert.equal(fileSystem.attributes(ino).sizeBytes, 0);
    assert.equal((await ask(0)).error, 0);
    assert.equal(fileSystem.attributes(ino).sizeBytes, 8192);
    for (const mode of [3, 16, 17]) assert.equal((await ask(mode)).error, 0);
    for (const mode of [8, 32, 64, 18]) assert.equal((await ask(mode)).error, errno.EOPNOTSUPP);
  });
});

describe('a lookup of the dot', () => {
  test('finds any inode, as file handles of NFS need it', async () => {
    const { kernel, ino } = await withFile();
    const { payload } = await kernel.ask(opcode.lookup, ino, body('.'));
    assert.equal(payload.readBigUInt64LE(0), BigInt(ino));
  });
});

describe('what the kernel may believe', () => {
  /** Of a reply to LOOKUP: the node, and how long its name and its attributes are believed. */
  const entry = (payload: Buffer) => [0, 16, 24].map((at) => Number(payload.readBigUInt64LE(at)));

  test('is a name for a while, and as long that there is none', async () => {
    const { kernel, ino } = await withFile();
    kernel.timeoutMs = 9000;
    const found = await kernel.ask(opcode.lookup, 1, body('f'));
    assert.deepEqual([found.error, ...entry(found.payload)], [0, ino, 9, 9]);
    const none = await kernel.ask(opcode.lookup, 1, body('none'));
    assert.deepEqual([none.error, ...entry(none.payload)], [0, 0, 9, 0]);
    kernel.timeoutMs = 0;
    assert.equal((await kernel.ask(opcode.lookup, 1, body('none'))).error, errno.ENOENT);
  });

  test('is nothing that others may have changed while it was found out', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    const lookup = fileSystem.lookup.bind(fileSystem);
    fileSystem.lookup = (...where) => {
      kernel.changeCount += 1;
      return lookup(...where);
    };
    const found = await kernel.ask(opcode.lookup, 1, body('f'));
    assert.deepEqual(entry(found.payload), [ino, 0, 0]);
    assert.equal((await kernel.ask(opcode.lookup, 1, body('none'))).error, errno.ENOENT);
  });

  test('ends when a file is opened that is not what the kernel was told', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    await kernel.ask(opcode.getattr, ino, body(0, 0, 0n));
    await kernel.ask(opcode.open, ino, body(0, 0));
    assert.deepEqual(kernel.forgotten, []);
    await fileSystem.write(ino, 0, Buffer.from('of another host'));
    await kernel.ask(opcode.open, ino, body(0, 0));
    assert.deepEqual(kernel.forgotten, [ino]);
    await kernel.ask(opcode.open, ino, body(0, 0));
    assert.deepEqual(kernel.forgotten, [ino]);
  });

  test('ends for what it has asked before a file was opened that had changed', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    const attributes = fileSystem.attributes.bind(fileSystem);
    const believed = async () =>
      Number((await kernel.ask(opcode.getattr, ino, body(0, 0, 0n))).payload.readBigUInt64LE(0));
    assert.equal(await believed(), 1);
    fileSystem.write(ino, 0, Buffer.from('of another host'));
    (fileSystem as FileSystem).attributes = async (of) => {
      const found = attributes(of);
      await kernel.told.opened(1n, found);
      return found;
    };
    assert.equal(await believed(), 0);
    fileSystem.attributes = attributes;
    assert.equal(await believed(), 1);
  });

  test('changes again when who opened the file has its answer, or has closed it', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    for (const by of ['thread', 'handle'] as const) {
      fileSystem.write(ino, 0, Buffer.from(`of another host, for the ${by}`));
      kernel.thread = 1;
      const opened = await kernel.ask(opcode.open, ino, body(0, 0));
      await kernel.ask(opcode.getattr, ino, body(0, 0, 0n));
      let isTold = false;
      const telling = kernel.told.changed(ino, async () => void (isTold = true));
      kernel.thread = 2;
      await kernel.ask(opcode.statfs, ino, body());
      assert.equal(isTold, false);
      const handle = opened.payload.readBigUInt64LE(0);
      if (by === 'handle') await kernel.ask(opcode.release, ino, body(handle, 0, 0, 0n));
      kernel.thread = 1;
      if (by === 'thread') await kernel.ask(opcode.statfs, ino, body());
      await telling;
      assert.equal(isTold, true);
    }
  });

  test('is what it has done by itself', async () => {
    const { kernel, ino } = await withFile();
    await kernel.ask(opcode.getattr, ino, body(0, 0, 0n));
    await kernel.ask(opcode.write, ino, body(0n, 0n, 4, 0, 0n, 0, 0, 1));
    await kernel.ask(opcode.open, ino, body(0, 0));
    await kernel.ask(opcode.open, ino, body(0o1000, 0));
    await kernel.ask(opcode.open, ino, body(0, 0));
    assert.deepEqual(kernel.forgotten, []);
    const fromPageCache = 1;
    await kernel.ask(opcode.write, ino, body(0n, 0n, 4, fromPageCache, 0n, 0, 0, 1));
    await kernel.ask(opcode.open, ino, body(0, 0));
    assert.deepEqual(kernel.forgotten, [ino]);
  });

  test('is not what a listing had no room to tell it', async () => {
    const { fileSystem, kernel, ino } = await withFile();
    await kernel.ask(opcode.getattr, ino, body(0, 0, 0n));
    fileSystem.write(ino, 0, Buffer.from('of another host'));
    const roomForDots = 2 * (128 + 32) + 100;
    await kernel.ask(opcode.readdirplus, 1, body(0n, 0n, roomForDots, 0, 0n, 0, 0));
    await kernel.ask(opcode.open, ino, body(0, 0));
    assert.deepEqual(kernel.forgotten, [ino]);
  });

  test('of an inode that is gone is that its path leads elsewhere', async () => {
    const { kernel } = await withFile();
    const [gone, read] = [999, body(0n, 0n, 4096, 0, 0n, 0, 0)];
    assert.equal((await kernel.ask(opcode.getattr, gone, body(0, 0, 0n))).error, errno.ESTALE);
    assert.equal((await kernel.ask(opcode.open, gone, body(0, 0))).error, errno.ESTALE);
    assert.equal((await kernel.ask(opcode.read, gone, read)).error, errno.ESTALE);
    assert.equal((await kernel.ask(opcode.unlink, 1, body('none'))).error, errno.ENOENT);
  });
});
