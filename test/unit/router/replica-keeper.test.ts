/** Which copies of other hosts' journals a host keeps. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { epoch, hostId, KiB, objectId } from '../../../src/core/units.ts';
import { encodeRequestHead, peerKind } from '../../../src/format/peer-message.ts';
import { ReplicaServer } from '../../../src/log/replica-server.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import { HostRecords } from '../../../src/registry/host-records.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { ObjectRecords } from '../../../src/registry/object-records.ts';
import { ReplicaKeeper } from '../../../src/router/moves/replica-keeper.ts';
import { quietLog } from '../../support/quiet-log.ts';

const id = objectId('5'.repeat(32));
const [a, b] = [hostId('a'), hostId('b')];
const roundMs = 2000;

/** Host b with a copy that a fills in its first tenure; a's lease is over, though a may not know. */
async function copyOfForgotten() {
  const clock = new SimulatedClock();
  const log = quietLog();
  const registry = new MemoryRegistry(clock);
  const records = new ObjectRecords(registry);
  await records.create(id, 'volume', a);
  await records.claim(id, a);
  const replicas = new ReplicaServer(
    {
      ...{ disk: new MemoryDisk(), checksum: tableChecksum(), clock, log, folder: '/replicas' },
      ssd: { failure: undefined },
    },
    { fileBytes: 256 * KiB, freeBytesMin: 0 },
  );
  const counts = { session: 1, generation: 1, epoch: 1, offset: 0, length: 0 };
  const head = encodeRequestHead({ id, ...counts });
  await replicas.handle(a, { kind: peerKind.replicaBegin, head, payload: new Uint8Array(0) });
  const takenOver: string[] = [];
  const keeper = new ReplicaKeeper({
    ...{ replicas, records, hosts: new HostRecords(registry), host: b, clock, log },
    takeOver: async (object) => void takenOver.push(object),
  });
  const end = async () => {
    await keeper.close();
    await replicas.close();
    await registry.close();
  };
  return { clock, records, replicas, takenOver, [Symbol.asyncDispose]: end };
}

test('a copy that its owner may still name stays, and is taken over once it is named', async () => {
  await using world = await copyOfForgotten();
  const { clock, records, replicas, takenOver } = world;
  await records.setTail(id, epoch(1), 'owner');
  await clock.advance(3 * roundMs);
  assert.deepEqual(
    replicas.copies().map(({ copy }) => copy),
    ['1.1'],
  );
  await records.setTail(id, epoch(1), { host: b, copy: '1.1' });
  await clock.advance(2 * roundMs);
  assert.deepEqual([...new Set(takenOver)], [id]);
});

test('a copy of a tenure that is over goes', async () => {
  await using world = await copyOfForgotten();
  const { clock, records, replicas } = world;
  await records.claim(id, a);
  await clock.advance(2 * roundMs);
  assert.deepEqual(replicas.copies(), []);
});
