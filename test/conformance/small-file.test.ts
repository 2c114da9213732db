import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { limits } from '../../src/core/limits.ts';
import { hostId, MiB, objectId } from '../../src/core/units.ts';
import { FileDriver } from '../../src/file/file-driver.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { ObjectRecords } from '../../src/registry/object-records.ts';
import { quietLog } from '../support/quiet-log.ts';
import { tenureOf } from '../support/tenure.ts';
import { dataObjectSuite } from './data-object.ts';

const id = objectId('1'.repeat(32));

async function open(settings: { writeBackDelayMs: number; dirtyBytesMax: number }) {
  const backend = new MemoryBackend();
  await backend.createBucket('files');
  const records = new ObjectRecords(new MemoryRegistry(systemClock(undefined)));
  await records.create(id, 'file', hostId('a'));
  const { epoch } = await records.claim(id, hostId('a'));
  const deps = {
    backend,
    bucket: 'files',
    heads: records.heads('file'),
    checksum: tableChecksum(),
  };
  const driver = new FileDriver(
    { ...deps, clock: systemClock(undefined), log: quietLog() },
    { ...settings, cacheBytesMax: 4 * MiB, keptMs: 0 },
  );
  const tenure = tenureOf(id, epoch);
  await driver.create(tenure);
  const object = await driver.open(tenure);
  return { object, [Symbol.asyncDispose]: () => object.close() };
}

const sizeMax = limits.promoteBytes;
dataObjectSuite('a small file', {
  open: () => open({ writeBackDelayMs: 1000, dirtyBytesMax: 64 * MiB }),
  sizeMax,
});
dataObjectSuite('a small file that is committed all the time', {
  open: () => open({ writeBackDelayMs: 1, dirtyBytesMax: 1 }),
  sizeMax,
});
