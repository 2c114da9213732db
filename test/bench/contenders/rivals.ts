/** Products that do what Wharf does, or a part of it. */

import { mkdirSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB, MiB } from '../../../src/core/units.ts';
import type { Ceph } from '../../support/ceph.ts';
import { run } from '../../support/servers.ts';
import type { Contender, Place } from './contender.ts';
import { missingOf, Mounted } from './contender.ts';
import type { ObjectStore } from '../object-store.ts';

const pollMs = 100;

export const s3backerMissing = (): string | false => missingOf('/usr/bin/s3backer');

/** Larger than its default, with which each 4 KiB are a request to the store. */
const s3backerBlockBytes = 64 * KiB;

/** A file whose blocks are objects, behind a cache of blocks in a local file. */
export class S3backer implements Contender {
  readonly #place: Place;
  readonly #store: ObjectStore;
  readonly #bucket: string;
  #mounted: Mounted | undefined;

  private constructor(place: Place, store: ObjectStore, bucket: string) {
    this.#place = place;
    this.#store = store;
    this.#bucket = bucket;
  }

  static async start(place: Place, store: ObjectStore, bucket: string): Promise<S3backer> {
    const started = new S3backer(place, store, bucket);
    mkdirSync(started.#mount);
    await store.makeBucket(bucket);
    await started.#start();
    return started;
  }

  get disk(): { readonly file: string } {
    return { file: join(this.#mount, 'file') };
  }

  get #mount(): string {
    return join(this.#place.folder, 'mnt');
  }

  get #cacheFile(): string {
    return join(this.#place.folder, 'cache');
  }

  /** It tells in a file of its mount how much of its cache is not in the store. */
  async settle(): Promise<void> {
    for (;;) {
      const text = await fs.readFile(join(this.#mount, 'stats'), 'utf8');
      const found = /block_cache_dirty_ratio\s+([\d.]+)/.exec(text);
      if (!found) throw new Error(`s3backer says nothing of its cache: ${text}`);
      if (Number(found[1]) === 0) return;
      await sleep(pollMs);
    }
  }

  /** With nothing in its cache. */
  async restartEmptied(): Promise<void> {
    await this.settle();
    await this.#mounted?.[Symbol.asyncDispose]();
    rmSync(this.#cacheFile, { force: true });
    await this.#start();
  }

  async #start(): Promise<void> {
    const { diskBytes } = this.#place;
    const { endpoint, accessKey, secretKey } = this.#store.server;
    const command = [
      // With a region it would look for the bucket by the name of a host.
      ...['s3backer', '-f', '--force', `--baseURL=${endpoint}/`],
      ...[`--accessId=${accessKey}`, `--accessKey=${secretKey}`],
      ...[`--size=${diskBytes}`, `--blockSize=${s3backerBlockBytes}`, '--noAutoDetect'],
      ...[`--blockCacheFile=${this.#cacheFile}`],
      `--blockCacheSize=${diskBytes / s3backerBlockBytes}`,
      ...[this.#bucket, this.#mount],
    ];
    const where = { mount: this.#mount, file: this.disk.file };
    this.#mounted = await Mounted.start(command, where);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mounted?.[Symbol.asyncDispose]();
  }
}

const pool = 'bench';
const image = 'disk';

/** An image in the memory of one OSD. */
export async function startCephRbd({ diskBytes }: Place, ceph: Ceph): Promise<Contender> {
  const { configuration } = ceph;
  const settings = ['-c', configuration];
  await run('ceph', [...settings, 'osd', 'pool', 'create', pool, '4']);
  await run('rbd', [...settings, 'pool', 'init', pool]);
  const size = ['--size', `${diskBytes / MiB}M`, '--image-feature', 'layering'];
  await run('rbd', [...settings, 'create', ...size, `${pool}/${image}`]);
  return {
    disk: { rbd: { configuration, pool, image } },
    settle: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

export async function cephRbdMissing(): Promise<string | false> {
  const missing = missingOf('/usr/bin/rbd');
  if (missing !== false) return missing;
  const { stdout } = await run('fio', ['--enghelp']);
  return !/\brbd\b/.test(stdout) && 'no engine rbd in fio';
}
