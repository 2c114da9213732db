/** What a daemon remembers of its folder on the SSD, beside what lies in it. */

import { basename, dirname, join } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import type { Disk } from '../ports/disk.ts';
import type { Random } from '../ports/random.ts';

const idBytes = 8;
const textBytesMax = 64;

/** Tells folders on SSDs apart, so that a host that comes back on its own is known. */
export async function dataId(disk: Disk, random: Random, data: string): Promise<string> {
  const path = join(data, 'id');
  const made = Buffer.from(random.bytes(idBytes)).toString('hex');
  if ((await readText(disk, path)) === undefined) await writeText(disk, path, made);
  const text = (await readText(disk, path)) ?? '';
  if (text.length !== 2 * idBytes || !/^[0-9a-f]+$/.test(text))
    throw new StorageError('corrupt', `${path} is damaged: remove it`);
  return text;
}

/**
 * Journals that were written before the machine was started: what was not synced of them may be gone. That
 * a machine was started is seen by the boot id that lies beside them, which is put there once all of them
 * are recovered.
 */
export class TornJournals {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #bootId: string;
  #torn: ReadonlySet<ObjectId>;

  private constructor(disk: Disk, path: string, bootId: string, torn: ReadonlySet<ObjectId>) {
    this.#disk = disk;
    this.#path = path;
    this.#bootId = bootId;
    this.#torn = torn;
  }

  /** `ids`: of the journals that are there. */
  static async find(
    disk: Disk,
    data: string,
    bootId: string,
    ids: readonly ObjectId[],
  ): Promise<TornJournals> {
    const path = join(data, 'boot');
    const isSame = (await readText(disk, path)) === bootId;
    return new TornJournals(disk, path, bootId, new Set(isSame ? [] : ids));
  }

  has(id: ObjectId): boolean {
    return this.#torn.has(id);
  }

  /** All that were there are recovered, or gone, but these. */
  async noteLeft(ids: readonly ObjectId[]): Promise<void> {
    const left = ids.filter((id) => this.#torn.has(id));
    this.#torn = new Set(left);
    if (left.length === 0) await writeText(this.#disk, this.#path, this.#bootId);
  }
}

/** Undefined where there is no such file. */
async function readText(disk: Disk, path: string): Promise<string | undefined> {
  if (!disk.list(dirname(path)).includes(basename(path))) return undefined;
  const bytes = new Uint8Array(textBytesMax);
  const file = disk.open(path, 'read');
  try {
    return Buffer.from(bytes.subarray(0, await file.read(0, bytes))).toString();
  } finally {
    await file.close();
  }
}

/** As a whole, durable. */
async function writeText(disk: Disk, path: string, text: string): Promise<void> {
  const file = disk.open(`${path}.new`, 'create');
  try {
    file.truncate(0);
    file.write(0, [Buffer.from(text)]);
    await file.datasync();
  } finally {
    await file.close();
  }
  disk.rename(`${path}.new`, path);
  disk.syncFolder(dirname(path));
}
