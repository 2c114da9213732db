/** The File Driver: small files of a vPool, all in one shared bucket. */

import { Permits } from '../core/permits.ts';
import type { ObjectId } from '../core/units.ts';
import { limits } from '../core/limits.ts';
import type { Backend, BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Heads } from '../registry/object-records.ts';
import { decodeManifest, emptyManifest, encodeManifest } from './manifest.ts';
import { PieceCache } from './piece-cache.ts';
import { SmallFile } from './small-file.ts';

export interface FileSettings {
  /** A changed file is committed after this time, ms, if nobody asked earlier. */
  readonly writeBackDelayMs: number;
  /** Bytes of changed pieces in memory, over all files. */
  readonly dirtyBytesMax: number;
  /** Bytes of unchanged pieces in memory. */
  readonly cacheBytesMax: number;
}

export interface FileDriverDeps {
  readonly backend: Backend;
  readonly bucket: string;
  readonly heads: Heads;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
}

export class FileDriver implements ObjectDriver {
  readonly kind = 'file';
  readonly #deps: FileDriverDeps;
  readonly #settings: FileSettings;
  readonly #store: BlobStore;
  readonly #cache: PieceCache;
  readonly #dirtyBytes: Permits;

  constructor(deps: FileDriverDeps, settings: FileSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#store = deps.backend.bucket(deps.bucket);
    this.#cache = new PieceCache(this.#store, deps.checksum, deps.log, settings.cacheBytesMax);
    this.#dirtyBytes = new Permits(settings.dirtyBytesMax);
  }

  create(tenure: Tenure): Promise<void> {
    const manifest = encodeManifest(emptyManifest);
    return this.#deps.heads.commitHead(tenure.objectId, tenure.epoch, manifest);
  }

  async open(tenure: Tenure): Promise<SmallFile> {
    const { heads, checksum, clock, log } = this.#deps;
    const head = await heads.loadHead(tenure.objectId);
    const manifest = head ? decodeManifest(head) : emptyManifest;
    return new SmallFile(
      {
        ...{ checksum, clock, cache: this.#cache, store: this.#store },
        log: log.child({ object: tenure.objectId, epoch: tenure.epoch }),
        dirtyBytes: this.#dirtyBytes,
        commitManifest: (next) =>
          heads.commitHead(tenure.objectId, tenure.epoch, encodeManifest(next)),
        writeBackDelayMs: this.#settings.writeBackDelayMs,
      },
      tenure,
      manifest,
    );
  }

  /** Also what a crash left of commits that came to nothing. */
  async delete(id: ObjectId): Promise<void> {
    for (;;) {
      const prefix = `file/${id}/`;
      const { blobs } = await this.#store.list({ prefix, limit: limits.listEntriesMax });
      if (blobs.length === 0) return;
      await this.#store.deleteMany(blobs.map(({ key }) => key));
    }
  }
}
