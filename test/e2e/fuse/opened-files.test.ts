/**
 * What who opens a file is read to that others have changed, when the kernel is told of changes at
 * the worst moment: while it is asking for the file's size.
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { test } from 'node:test';
import type { Ino } from '../../../src/core/units.ts';
import type { FileSystem } from '../../../src/ports/file-system.ts';
import { rootIno } from '../../../src/ports/file-system.ts';
import { TestMount } from '../../support/fuse-mount.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { cannotMount } from '../../support/playground.ts';

/** Whatever the kernel asks of the file, and whenever it reads it, something else happens first. */
function interrupt(fileSystem: FileSystem, ino: Ino, first: () => Promise<void>): void {
  const attributes = fileSystem.attributes.bind(fileSystem);
  const read = fileSystem.read.bind(fileSystem);
  fileSystem.attributes = async (of) => {
    const found = await attributes(of);
    if (of === ino) await first();
    return found;
  };
  fileSystem.read = async (...where) => {
    const count = await read(...where);
    await first();
    return count;
  };
}

for (const [what, content] of [
  ['longer', 'longer than it was'],
  ['shorter', 'less'],
  ['as long', 'BEFORE'],
] as const)
  test(`a file that became ${what} is read as it is`, { skip: cannotMount }, async () => {
    const fileSystem = new MemoryFileSystem();
    await using made = await TestMount.of(fileSystem);
    await fs.writeFile(made.at('f'), 'before');
    assert.equal(await fs.readFile(made.at('f'), 'utf8'), 'before');
    const { ino } = await fileSystem.lookup(rootIno, 'f');
    await fileSystem.change(ino, { sizeBytes: content.length });
    await fileSystem.write(ino, 0, Buffer.from(content));
    // Closed before the mount goes, also when the test fails: this process serves it.
    await using file = await fs.open(made.at('f'));
    interrupt(fileSystem, ino, async () => made.mount?.invalidateInode(ino, 'attributes'));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(100), 0, 100, 0);
    assert.equal(buffer.toString('utf8', 0, bytesRead), content);
  });
