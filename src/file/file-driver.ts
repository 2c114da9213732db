/** The File Driver: small files of a vPool, all in one shared bucket. */

import { limits } from '../core/limits.ts';
import { within } from '../core/within.ts';
import type { ObjectId } from '../core/units.ts';
import type { Backend, BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Heads } from '../registry/object-records.ts';
import { Janitor } from './janitor.ts';
import type { Manifest, Piece } from './manifest.ts';
import {
  decodeManifest,
  emptyManifest,
  encodeManifest,
  pieceKey,
  piecePrefix,
} from './manifest.ts';
import { PieceCache } from './piece-cache.ts';
import { SmallFile } from './small-file.ts';
import { WriteBackBudget } from './write-back-budget.ts';

const closeWaitMs = 2000;

export interface FileSettings {
  /** A changed file is committed after this time, ms, if nobody asked earlier. */
  readonly writeBackDelayMs: number;
  /** Bytes of changed pieces in memory, over all files. */
  readonly dirtyBytesMax: number;
  /** Bytes of unchanged pieces in memory. */
  readonly cacheBytesMax: number;
  /** Pieces that were replaced stay so long, ms: a recovery may find an older manifest. */
  readonly keptMs: number;
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
  readonly #budget: WriteBackBudget;
  readonly #janitor: Janitor;

  constructor(deps: FileDriverDeps, settings: FileSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#store = deps.backend.bucket(deps.bucket);
    this.#cache = new PieceCache(this.#store, deps.checksum, deps.log, settings.cacheBytesMax);
    this.#budget = new WriteBackBudget(settings.dirtyBytesMax);
    const { clock, log } = deps;
    this.#janitor = new Janitor({ store: this.#store, clock, log, keptMs: settings.keptMs });
  }

  /** Bytes of changed pieces in memory now, over all files. */
  get dirtyBytes(): number {
    return this.#budget.heldBytes;
  }

  create(tenure: Tenure): Promise<void> {
    const manifest = encodeManifest(emptyManifest);
    return this.#deps.heads.commitHead(tenure.objectId, tenure.epoch, manifest);
  }

  async open(tenure: Tenure): Promise<SmallFile> {
    const { heads, checksum, clock, log } = this.#deps;
    const { objectId, epoch } = tenure;
    const head = await heads.loadHead(objectId);
    const manifest = head ? decodeManifest(head) : emptyManifest;
    this.#janitor.inspect(objectId, epoch, manifest);
    return new SmallFile(
      {
        ...{ checksum, clock, store: this.#store },
        ...{ cache: this.#cache, budget: this.#budget, janitor: this.#janitor },
        log: log.child({ object: objectId, epoch }),
        commitManifest: (next) => heads.commitHead(objectId, epoch, encodeManifest(next)),
        writeBackDelayMs: this.#settings.writeBackDelayMs,
      },
      tenure,
      manifest,
    );
  }

  /**
   * Keeps what the backend has of a file, until it is dropped: changes of the file go on meanwhile.
   * `copy` makes it the content of a new file, and leaves nothing of that where it fails.
   */
  async keep(id: ObjectId): Promise<{
    readonly copy: (to: Tenure) => Promise<void>;
    readonly drop: () => void;
  }> {
    const drop = this.#janitor.spare(id);
    try {
      const head = await this.#deps.heads.loadHead(id);
      const manifest = head ? decodeManifest(head) : emptyManifest;
      const copy = (to: Tenure) =>
        this.#copy(manifest, to).catch(async (error: unknown) => {
          await this.delete(to.objectId);
          throw error;
        });
      return { copy, drop };
    } catch (error) {
      drop();
      throw error;
    }
  }

  /** Also what a crash left of commits that came to nothing. */
  async delete(id: ObjectId): Promise<void> {
    this.#janitor.leave(id);
    for (;;) {
      const limit = limits.listEntriesMax;
      const { blobs } = await this.#store.list({ prefix: piecePrefix(id), limit });
      if (blobs.length === 0) return;
      await this.#store.deleteMany(blobs.map(({ key }) => key));
    }
  }

  /** Resolves when nothing is left to be taken away from the backend. */
  drained(): Promise<void> {
    return this.#janitor.drained();
  }

  async #copy({ sizeBytes, pieces }: Manifest, to: Tenure): Promise<void> {
    const { objectId, epoch, signal } = to;
    const version = 1;
    const copied: (Piece | null)[] = [];
    for (const [index, piece] of pieces.entries()) {
      copied.push(piece && { ...piece, key: pieceKey(objectId, epoch, version, index) });
      const key = copied[index]?.key;
      if (piece && key !== undefined)
        await this.#store.put(key, await this.#cache.read(piece, signal), { signal });
    }
    const manifest = encodeManifest({ ...emptyManifest, version, sizeBytes, pieces: copied });
    await this.#deps.heads.commitHead(objectId, epoch, manifest);
  }

  /**
   * The files are closed. A backend that is away holds nobody up: what is still to be taken away
   * from it then is found again when the files are opened.
   */
  async close(): Promise<void> {
    this.#janitor.hurry();
    await within(this.#deps.clock, closeWaitMs, this.#janitor.drained());
    await this.#janitor.close();
  }
}
