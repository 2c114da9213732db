/**
 * `REGISTRY STORE BLOCKS WRITTEN_BYTES`: gives the one volume of a vPool that nobody serves a map of so
 * many scattered blocks, whose places are those of the bytes at its beginning, one after another. All
 * is done by the Volume Driver's own parts, a checkpoint for each million of blocks.
 */

import { openBackend } from '../../src/backend/open-backend.ts';
import { ChunkVerifier } from '../../src/cache/chunk-verifier.ts';
import { directSource } from '../../src/cache/direct-source.ts';
import { SegmentFetcher } from '../../src/cache/segment-fetcher.ts';
import { Permits } from '../../src/core/permits.ts';
import { KiB, MiB } from '../../src/core/units.ts';
import type { Head } from '../../src/format/head.ts';
import { placeWords } from '../../src/format/place.ts';
import { SegmentUploader } from '../../src/log/segment-uploader.ts';
import { readBootId } from '../../src/platform/boot-id.ts';
import { nativeChecksum, tableChecksum } from '../../src/platform/checksum.ts';
import { loadNative } from '../../src/platform/native.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import { ObjectRecords } from '../../src/registry/object-records.ts';
import { SqliteRegistry } from '../../src/registry/sqlite-registry.ts';
import { BlockMap } from '../../src/volume/block-map.ts';
import { Checkpointer } from '../../src/volume/checkpointer.ts';
import { HeadCommitter } from '../../src/volume/head-committer.ts';
import { PageBudget } from '../../src/volume/page-budget.ts';
import { PageTree } from '../../src/volume/page-tree.ts';
import { findHead, lastDataSegment } from '../../src/volume/recovery.ts';
import { SegmentSequencer } from '../../src/volume/segment-sequencer.ts';
import { quietLog } from '../support/quiet-log.ts';
import { smallSettings } from '../support/volume-world.ts';
import { scatteredBlock } from './scattered-blocks.ts';

const blockBytes = 4 * KiB;
const segmentBytes = 4 * MiB;
const blocksPerCheckpoint = 1_000_000;
const bucketPrefix = 'wharf-demo';

const [registryFile = '', storeFolder = '', ...counts] = process.argv.slice(2);
const [blocks = 0, writtenBytes = 0] = counts.map(Number);

const { native } = loadNative();
const clock = systemClock(native);
const checksum = native ? nativeChecksum(native) : tableChecksum();
const log = quietLog();
const { signal } = new AbortController();

const bootId = readBootId();
await using closing = new AsyncDisposableStack();
const registry = await SqliteRegistry.open({ path: registryFile, bootId }, clock);
closing.defer(() => registry.close());
const { backend } = await openBackend(
  { kind: 'dir', path: storeFolder, layout: 'buckets', bucketPrefix, requestsMax: 8 },
  { clock, log, random: systemRandom() },
);
closing.defer(() => backend.close());

const records = new ObjectRecords(registry);
const heads = records.heads('volume');
const found: Head[] = [];
for (const { id, kind, owner } of await records.list()) {
  const head = kind === 'volume' ? await findHead(heads, id, checksum) : undefined;
  if (!head || head.dataBlocks === 0) continue;
  found.push(head);
  if (head.tail.length > 0) throw new Error('the volume was not checkpointed');
  const { epoch } = await records.claim(id, owner);
  const store = backend.bucket(`${bucketPrefix}-${id}`);
  const verifier = new ChunkVerifier(checksum);
  const source = directSource(new SegmentFetcher({ clock, log, verifier }, store, signal));
  const root = { place: head.root, level: head.rootLevel };
  const map = new BlockMap(
    new PageTree([source], new PageBudget(256 * MiB), root),
    head.dataBlocks,
  );
  const checkpointer = new Checkpointer(
    {
      ...{ clock, log, checksum, signal, map, store, sources: [source], buckets: [{ id, store }] },
      committer: new HeadCommitter(heads, checksum, { objectId: id, epoch }, head),
      sequencer: new SegmentSequencer(id, epoch, lastDataSegment(head)),
      uploader: new SegmentUploader({ store, source, signal, inFlight: new Permits(64 * MiB) }),
      readsSettled: () => Promise.resolve(),
      snapshotTimes: () => Promise.resolve([]),
      onFailure: (error) => {
        throw error;
      },
    },
    { ...smallSettings, segmentBytes },
  );
  await scatter(map, checkpointer);
}
if (found.length !== 1) throw new Error(`${found.length} volumes have data`);

async function scatter(map: BlockMap, checkpointer: Checkpointer): Promise<void> {
  const count = writtenBytes / blockBytes;
  const places = new Uint32Array(count * placeWords);
  const place = new Uint32Array(placeWords);
  for (let block = 0; block < count; ) {
    const kind = map.find(block, place);
    if (kind instanceof Promise) await kind;
    else {
      places.set(place, block * placeWords);
      block += 1;
    }
  }
  for (let first = 0; first < blocks; first += blocksPerCheckpoint) {
    const end = Math.min(blocks, first + blocksPerCheckpoint);
    for (let index = first; index < end; index += 1) {
      const at = (index % count) * placeWords;
      map.applyBlock(scatteredBlock(index), places.subarray(at, at + placeWords));
    }
    await checkpointer.collect();
  }
  await checkpointer.drained();
}
