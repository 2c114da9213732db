/**
 * All that small files stand on, in memory: a backend and a registry that can fail before and
 * after each call, and that outlive the drivers of the host that uses them.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import type { Faults } from '../../src/backend/with-faults.ts';
import { noFaults, withFaults } from '../../src/backend/with-faults.ts';
import { StorageError } from '../../src/core/errors.ts';
import type { Backend, CallOptions } from '../../src/ports/blob-store.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { hostId, MiB, objectId } from '../../src/core/units.ts';
import type { FileSettings } from '../../src/file/file-driver.ts';
import { FileDriver } from '../../src/file/file-driver.ts';
import { decodeManifest, emptyManifest, encodeManifest } from '../../src/file/manifest.ts';
import type { SmallFile } from '../../src/file/small-file.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import type { Heads } from '../../src/registry/object-records.ts';
import { ObjectRecords } from '../../src/registry/object-records.ts';
import { quietLog } from './quiet-log.ts';
import type { TestTenure } from './tenure.ts';
import { tenureOf } from './tenure.ts';

const bucket = 'files';
const host = hostId('a');
const neverMs = 3_600_000;

export class FileWorld {
  readonly backend = new MemoryBackend();
  readonly records = new ObjectRecords(new MemoryRegistry(systemClock(undefined)));
  readonly log = quietLog();
  readonly settings: FileSettings;
  /** Asked before each commit of a manifest. */
  chooseForHead: () => 'none' | 'before' | 'after' = () => 'none';
  /** What calls of a kind wait for, unless their signal fires first. */
  hold: (operation: 'put' | 'get') => Promise<void> | undefined = () => undefined;
  /** Manifests that were committed. */
  commits = 0;
  #process: { driver: FileDriver; faults: Faults } | undefined;

  constructor(settings: Partial<FileSettings> = {}) {
    this.settings = {
      ...{ writeBackDelayMs: neverMs, dirtyBytesMax: 64 * MiB, cacheBytesMax: 4 * MiB },
      keptMs: 0,
      ...settings,
    };
  }

  get driver(): FileDriver {
    return this.#inProcess().driver;
  }

  /** Of the process that runs now. */
  get faults(): Faults {
    return this.#inProcess().faults;
  }

  get blobs(): Map<string, Uint8Array> {
    return this.backend.blobs(bucket);
  }

  /** Opens the file in a tenure of its own. */
  async open(id = fileId(1)): Promise<{ file: SmallFile; tenure: TestTenure }> {
    await this.backend.createBucket(bucket);
    await this.records.create(id, 'file', host);
    const { epoch, tail } = await this.records.claim(id, host);
    const tenure = tenureOf(id, epoch, tail);
    return { file: await this.driver.open(tenure), tenure };
  }

  /** The process dies: what it still tries comes to nothing, and the next one knows nothing. */
  kill(): void {
    const { faults } = this.#inProcess();
    faults.choose = () => 'before';
    this.chooseForHead = () => 'none';
    this.#process = undefined;
  }

  #inProcess(): { driver: FileDriver; faults: Faults } {
    this.#process ??= this.#start();
    return this.#process;
  }

  #start() {
    const { log, settings } = this;
    const faults = noFaults();
    const driver = new FileDriver(
      {
        ...{ log, bucket, checksum: tableChecksum(), clock: systemClock(undefined) },
        backend: this.#holding(withFaults(this.backend, faults)),
        heads: this.#heads(faults),
      },
      settings,
    );
    return { driver, faults };
  }

  #holding(inner: Backend): Backend {
    const wait = async (operation: 'put' | 'get', { signal }: CallOptions = {}) => {
      const held = this.hold(operation);
      if (held === undefined) return;
      const aborted = Promise.withResolvers<never>();
      const onAbort = () => aborted.reject(signal?.reason as Error);
      signal?.addEventListener('abort', onAbort, { once: true });
      await Promise.race([held, aborted.promise]).finally(() =>
        signal?.removeEventListener('abort', onAbort),
      );
    };
    return {
      conditionalPut: inner.conditionalPut,
      createBucket: (name, options) => inner.createBucket(name, options),
      deleteBucket: (name, options) => inner.deleteBucket(name, options),
      listBuckets: (options) => inner.listBuckets(options),
      bucket(name) {
        const store = inner.bucket(name);
        return {
          put: async (key, body, options) => {
            await wait('put', options);
            return store.put(key, body, options);
          },
          get: async (key, options) => {
            await wait('get', options);
            return store.get(key, options);
          },
          list: (options) => store.list(options),
          deleteMany: (keys, options) => store.deleteMany(keys, options),
        };
      },
      space: (options) => inner.space(options),
      close: () => inner.close(),
    };
  }

  #heads(faults: Faults): Heads {
    const heads = this.records.heads('file');
    return {
      loadHead: (id) => heads.loadHead(id),
      commitHead: async (id, tenure, head) => {
        const isDead = this.#process?.faults !== faults;
        const fault = isDead ? 'before' : this.chooseForHead();
        if (fault === 'before') throw new StorageError('unavailable', 'refused');
        await heads.commitHead(id, tenure, head);
        this.commits += 1;
        if (fault === 'after') throw new StorageError('unknown_outcome', 'the answer was lost');
      },
    };
  }
}

export function fileId(number: number): ObjectId {
  return objectId(number.toString(16).padStart(32, '0'));
}

export async function contentOf(file: SmallFile): Promise<Uint8Array> {
  const into = new Uint8Array(file.size());
  for (let at = 0; at < into.length; at += MiB)
    await file.read(at, into.subarray(at, Math.min(into.length, at + MiB)));
  return into;
}

export async function manifestOf(world: FileWorld, id = fileId(1)) {
  const head = await world.records.heads('file').loadHead(id);
  return decodeManifest(head ?? encodeManifest(emptyManifest));
}

/** What the manifest names, in the order in which the names of blobs are compared. */
export async function namedKeys(world: FileWorld): Promise<string[]> {
  const { pieces } = await manifestOf(world);
  return pieces.flatMap((piece) => piece?.key ?? []).sort();
}

/** Waits for something that happens by itself. */
export async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await sleep(1);
}
