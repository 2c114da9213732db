/** What is measured: a disk, and whatever serves it. */

import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname } from 'node:path';
import { loadNative } from '../../../src/platform/native.ts';
import { Servers } from '../../support/servers.ts';
import type { Disk } from '../fio.ts';

const detachFlag = 2;

export interface Contender extends AsyncDisposable {
  readonly disk: Disk;
  /** Resolves when nothing of what was written is under way any more. */
  settle(): Promise<void>;
}

/** Where one is set up. */
export interface Place {
  /** Of its own, empty, on the file system that is measured. */
  readonly folder: string;
  readonly diskBytes: number;
}

export type Start = (place: Place) => Promise<Contender>;

/** Why the programs are not all there, or false. */
export function missingOf(...programs: readonly string[]): string | false {
  const missing = programs.filter((path) => !existsSync(path));
  return missing.length > 0 && `no ${missing.join(', no ')}`;
}

/** With a place for every byte, so that writing it later changes no file's size. */
export async function makeFile(path: string, bytes: number): Promise<string> {
  const file = await fs.open(path, 'w');
  await file.truncate(bytes);
  await file.close();
  return path;
}

/** A process with a mount, on which one file is the disk. */
export class Mounted implements Contender {
  readonly disk: Disk;
  readonly #servers = new Servers();
  readonly #mount: string;

  private constructor(file: string, mount: string) {
    this.disk = { file };
    this.#mount = mount;
  }

  /** `command` stays in the foreground and mounts at `mount`. */
  static async start(
    command: readonly string[],
    { mount, file }: { readonly mount: string; readonly file: string },
  ): Promise<Mounted> {
    const mounted = new Mounted(file, mount);
    try {
      const [program = '', ...argv] = command;
      mounted.#servers.start(program, ...argv);
      const below = (await fs.stat(dirname(mount))).dev;
      await mounted.#servers.until(`a mount at ${mount}`, async () => {
        if ((await fs.stat(mount)).dev === below) throw new Error('not there yet');
      });
      return mounted;
    } catch (error) {
      await mounted[Symbol.asyncDispose]();
      throw error;
    }
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#servers[Symbol.asyncDispose]();
    while (loadNative().native?.unmountNow(this.#mount, detachFlag) === 0);
  }
}
