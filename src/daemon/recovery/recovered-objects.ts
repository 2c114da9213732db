/**
 * Makes the objects of a restored registry what the buckets say: each volume gets the head that its
 * bucket gives, each small file is looked through for pieces that are missing. Nobody owns what is on
 * SSDs any more, and epochs are beyond all that may have been used.
 */

import { decodeManifest, epochOfKey } from '../../file/manifest.ts';
import { isStorageError } from '../../core/errors.ts';
import { Permits } from '../../core/permits.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Ino, ObjectId } from '../../core/units.ts';
import { hostId, objectId } from '../../core/units.ts';
import { encodeHead } from '../../format/head.ts';
import type { Backend, BlobStore } from '../../ports/blob-store.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Registry } from '../../ports/registry.ts';
import { prefixRange } from '../../ports/registry.ts';
import type { Inode } from '../../registry/namespace.ts';
import { decodeInode, deleteKey, keys, putInode } from '../../registry/namespace.ts';
import type { ObjectState } from '../../registry/object-records.ts';
import { decodeObject, putObject } from '../../registry/object-records.ts';
import { RecordReader } from '../../registry/record.ts';
import type { Rebuilt } from '../../volume/rebuild.ts';
import { rebuildHead } from '../../volume/rebuild.ts';
import { BatchWriter } from './batch-writer.ts';
import type { ById } from './joined.ts';
import { joined } from './joined.ts';
import { keysOf } from './restored-registry.ts';

/** Epochs that hosts may have begun since the last write-out, without a trace in the buckets. */
const epochsUnseen = 1024;
const volumesAtOnce = 4;
/** No host is called so: whoever uses the object first takes it. */
const nobody = hostId('recovered');

export interface RecoveredDeps {
  readonly registry: Registry;
  readonly backend: Backend;
  readonly checksum: Checksum;
  readonly bucketPrefix: string;
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

export interface Loss {
  readonly id: ObjectId;
  /** Whose path says where it is; undefined: it has no name. */
  readonly ino?: Ino | undefined;
  readonly what: string;
}

export interface Unnamed {
  readonly id: ObjectId;
  readonly sizeBytes: number;
}

export interface RecoveredObjects {
  readonly volumes: number;
  readonly files: number;
  readonly losses: readonly Loss[];
  /** Volumes that no name leads to. */
  readonly unnamed: readonly Unnamed[];
}

interface Parts {
  /** The inode that it belongs to. */
  readonly reference: Ino;
  readonly record: ObjectState;
  readonly manifest: Uint8Array;
  readonly garbage: true;
  readonly bucket: true;
  /** Bytes of its pieces by key. */
  readonly pieces: ReadonlyMap<string, number>;
}

type Found = Partial<Parts> & { readonly id: ObjectId };

export async function recoverObjects(deps: RecoveredDeps): Promise<RecoveredObjects> {
  const recovery = new ObjectsRecovery(deps);
  return recovery.run();
}

class ObjectsRecovery {
  readonly #deps: RecoveredDeps;
  readonly #writer: BatchWriter;
  readonly #losses: Loss[] = [];
  readonly #unnamed: Unnamed[] = [];
  #volumes = 0;
  #files = 0;

  constructor(deps: RecoveredDeps) {
    this.#deps = deps;
    this.#writer = new BatchWriter(deps.registry);
  }

  async run(): Promise<RecoveredObjects> {
    const atOnce = new Permits(volumesAtOnce);
    let failure: { readonly error: unknown } | undefined;
    const tasks = new TaskGroup((error) => {
      failure ??= { error };
    });
    for await (const { id, ...parts } of joined<Parts>(this.#streams())) {
      const found = { id: objectId(id), ...parts };
      await atOnce.acquire(1);
      tasks.run(() => this.#recover(found).finally(() => atOnce.release(1)));
      if (failure) break;
    }
    await tasks.drained();
    if (failure) throw failure.error;
    await this.#writer.drained();
    const [volumes, files] = [this.#volumes, this.#files];
    return { volumes, files, losses: this.#losses, unnamed: this.#unnamed };
  }

  #streams(): { readonly [K in keyof Parts]: ById<Parts[K]> } {
    const { registry, backend, bucketPrefix, signal } = this.#deps;
    const files = backend.bucket(`${bucketPrefix}-files`);
    return {
      reference: keyed(registry, 'b', ({ value }) =>
        new RecordReader('back reference', value).ino('ino'),
      ),
      record: keyed(registry, 'o', ({ key, value, revision }) =>
        decodeObject(objectId(key.slice(1)), value, revision),
      ),
      manifest: keyed(registry, 'hf', ({ value }) => value),
      garbage: keyed(registry, 'g', () => true),
      bucket: bucketsOf(backend, `${bucketPrefix}-`, signal),
      pieces: piecesOf(files, signal),
    };
  }

  async #recover(found: Found): Promise<void> {
    const { id, reference, record, bucket, pieces } = found;
    if (found.garbage) return this.#recoverDeleted(found);
    const inode = reference === undefined ? undefined : await this.#inode(reference);
    if (!inode && !record) {
      if (bucket) await this.#recoverUnnamed(id);
      else if (pieces)
        this.#losses.push({ id, what: `a small file without a name, ${pieces.size} pieces of it` });
      return;
    }
    const kind = record?.kind ?? inode?.kind ?? 'file';
    const missing = kind === 'file' ? missingPieces(found, inode) : undefined;
    // It grew into a volume behind the last write-out, and its pieces went.
    if (kind === 'volume' || (missing !== undefined && bucket))
      return this.#recoverVolume(found, inode);
    this.#files += 1;
    if (missing !== undefined) this.#losses.push({ id, ino: reference, what: missing });
    const epochs = [...(pieces?.keys() ?? [])].map((key) => epochOfKey(key) ?? 0);
    await this.#put(id, stateOf(record, 'file', Math.max(0, ...epochs)));
  }

  async #recoverVolume({ id, record, bucket, manifest }: Found, inode?: Inode): Promise<void> {
    this.#volumes += 1;
    const ino = inode?.ino;
    const rebuilt = bucket ? await this.#rebuild(id) : undefined;
    const isThere = rebuilt !== undefined && !rebuilt.isEmpty;
    const faults = [...(rebuilt?.faults ?? [])];
    if (!isThere && (inode?.sizeBytes ?? 0) > 0)
      faults.push(bucket ? 'nothing of it was on the object store' : 'its bucket is gone');
    for (const what of faults) this.#losses.push({ id, ino, what });
    await this.#put(id, stateOf(record, 'volume', rebuilt?.epoch ?? 0), rebuilt);
    if (manifest) await this.#writer.add(deleteKey(`hf${id}`));
    const sizeBytes = rebuilt?.head.volumeBytes ?? 0;
    if (inode && inode.sizeBytes !== sizeBytes)
      await this.#writer.add(putInode({ ...inode, sizeBytes }));
  }

  /** Clones may read from it; what is to be deleted goes when hosts start. */
  async #recoverDeleted({ id, record, bucket }: Found): Promise<void> {
    if (record?.kind !== 'volume' || !bucket) return;
    const rebuilt = await this.#rebuild(id);
    await this.#put(id, stateOf(record, 'volume', rebuilt.epoch), rebuilt);
  }

  async #recoverUnnamed(id: ObjectId): Promise<void> {
    const rebuilt = await this.#rebuild(id);
    if (rebuilt.isEmpty) return;
    this.#volumes += 1;
    for (const what of rebuilt.faults) this.#losses.push({ id, what });
    this.#unnamed.push({ id, sizeBytes: rebuilt.head.volumeBytes });
    await this.#put(id, stateOf(undefined, 'volume', rebuilt.epoch), rebuilt);
  }

  #rebuild(id: ObjectId): Promise<Rebuilt> {
    const { backend, checksum, bucketPrefix, signal, onProgress } = this.#deps;
    onProgress(`volume ${id}`);
    const buckets = [{ id, store: backend.bucket(`${bucketPrefix}-${id}`) }];
    return rebuildHead({ buckets, checksum, signal });
  }

  async #put(id: ObjectId, state: ObjectState, rebuilt?: Rebuilt): Promise<void> {
    const { checksum } = this.#deps;
    const { epoch } = state;
    const isThere = rebuilt !== undefined && !rebuilt.isEmpty;
    const head = isThere ? encodeHead({ ...rebuilt.head, epoch }, checksum) : undefined;
    for (const write of putObject(id, state, head)) await this.#writer.add(write);
  }

  async #inode(ino: Ino): Promise<Inode | undefined> {
    const found = await this.#deps.registry.get(keys.inode(ino));
    return found && decodeInode(ino, found.value);
  }
}

/** All of it is on the backend, whatever was said before. */
function stateOf(
  record: ObjectState | undefined,
  kind: ObjectState['kind'],
  epochFound: number,
): ObjectState {
  const epoch = Math.max(record?.epoch ?? 0, epochFound) + epochsUnseen;
  const before = record ?? { owner: nobody, isPinned: false };
  return { ...before, kind, epoch, tail: 'backend' };
}

/** What of a small file can't be read, in words. */
function missingPieces({ manifest, pieces }: Found, inode?: Inode): string | undefined {
  if (!manifest)
    return inode && inode.sizeBytes > 0 ? 'nothing says which its pieces are' : undefined;
  try {
    const named = decodeManifest(manifest).pieces.filter((piece) => piece !== null);
    const gone = named.filter(({ key, bytes }) => pieces?.get(key) !== bytes).length;
    return gone === 0 ? undefined : `${gone} of its ${named.length} pieces are gone`;
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    return error.message;
  }
}

async function* keyed<T>(
  registry: Registry,
  prefix: string,
  decode: (entry: { key: string; value: Uint8Array; revision: number }) => T,
): ById<T> & AsyncGenerator<readonly [string, T]> {
  for await (const entry of keysOf(registry, prefixRange(prefix))) {
    const id = entry.key.slice(prefix.length);
    if (isId(id)) yield [id, decode(entry)];
  }
}

const isId = (text: string) => /^[0-9a-f]{32}$/.test(text);

async function* bucketsOf(
  backend: Backend,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<readonly [string, true]> {
  const names = await backend.listBuckets({ prefix, signal });
  for (const id of names.map((name) => name.slice(prefix.length)).sort())
    if (isId(id)) yield [id, true];
}

async function* piecesOf(
  store: BlobStore,
  signal: AbortSignal,
): AsyncGenerator<readonly [string, ReadonlyMap<string, number>]> {
  let pieces = new Map<string, number>();
  let current = '';
  for (let after: string | undefined; ; ) {
    const page = await store.list({
      prefix: 'file/',
      signal,
      ...(after !== undefined && { after }),
    });
    for (const { key, bytes } of page.blobs) {
      const id = key.split('/')[1] ?? '';
      if (!isId(id)) continue;
      if (id !== current) {
        if (current !== '') yield [current, pieces];
        [current, pieces] = [id, new Map()];
      }
      pieces.set(key, bytes);
    }
    after = page.next;
    if (after === undefined) break;
  }
  if (current !== '') yield [current, pieces];
}
