/** A file of this machine that has its name once it is whole and durable. */

import type { FileHandle } from 'node:fs/promises';
import { open, rename } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Making } from './half-made.ts';
import { making, orNothing } from './half-made.ts';
import type { CopyOptions } from './image-place.ts';
import { fail, standingAt, temporaryName } from './image-place.ts';

export async function refuseStanding(to: string, { force }: CopyOptions): Promise<void> {
  const standing = await standingAt(to);
  if (standing && !standing.isFile()) fail(`${to} is no file: it is not replaced`);
  if (standing && force !== true) fail(`${to} exists already; --force replaces it`);
}

/** `around`: what else is begun before it, and undone after it. */
export async function wholeFile<T>(
  to: string,
  write: (file: FileHandle, temporary: string, signal: AbortSignal) => Promise<T>,
  around?: Making,
): Promise<T> {
  const temporary = join(dirname(resolve(to)), temporaryName());
  const { begin, undo } = making(temporary, async () => (await open(temporary, 'wx')).close());
  const both = {
    begin: async () => {
      await around?.begin();
      await begin();
    },
    undo: async () => {
      await undo();
      await around?.undo();
    },
  };
  return orNothing(both, async (signal) => {
    const file = await open(temporary, 'r+');
    let written: T;
    try {
      written = await write(file, temporary, signal);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, to);
    return written;
  });
}
