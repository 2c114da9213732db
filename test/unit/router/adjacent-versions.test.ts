/** Hosts that number changes, and hosts of the version before, which do not. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import {
  decodeAnswerHead,
  decodeRequestHead,
  encodeAnswerHead,
  encodeRequestHead,
  peerKind,
} from '../../../src/format/peer-message.ts';
import type { PeerMessage, Peers } from '../../../src/ports/peers.ts';
import { PeerLink } from '../../../src/router/peers/peer-link.ts';
import { RemoteObject } from '../../../src/router/peers/remote-object.ts';
import { Unflushed } from '../../../src/router/unflushed.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('5'.repeat(32));
const data = new Uint8Array(4096).fill(7);
const nothing = new Uint8Array(0);

/** An owner of the version before: no epochs, and results as it gave them. */
function olderOwner() {
  const asked: number[] = [];
  const resultOf = ({ kind, payload }: PeerMessage) => {
    if (kind === peerKind.write) return payload.length;
    return kind === peerKind.append ? 1 : 0;
  };
  const peers: Pick<Peers, 'call'> = {
    call: async (_to, message) => {
      asked.push(message.kind);
      if (message.kind > peerKind.append) throw new StorageError('unsupported', 'unknown kind');
      assert.equal(decodeRequestHead(message.head).id, id);
      const answer = { sizeBytes: 4096, allocatedBytes: 4096, isVolume: true, epoch: 0 };
      const head = encodeAnswerHead({ ...answer, result: resultOf(message) });
      return { kind: message.kind, head, payload: nothing };
    },
  };
  const link = new PeerLink(peers as Peers, { host: hostId('a'), address: 'a' }, () => 1, {
    generation: 0,
  });
  return { link, asked };
}

describe('to an owner of the version before', () => {
  test('writes, appends and flushes go as ever, and no change is claimed', async () => {
    const { link, asked } = olderOwner();
    const object = await RemoteObject.open(link, id);
    const unflushed = new Unflushed();
    object.noteIn(unflushed);
    await object.write(0, data);
    await object.trim(0, 4096);
    await object.resize(4096);
    assert.ok((await object.appendAt(4096, data)) > 0);
    await object.flush();
    assert.ok(unflushed.isEmpty);
    const { open, write, trim, resize, append, flush } = peerKind;
    assert.deepEqual(asked, [open, write, trim, resize, append, flush]);
  });

  test('a change is there as far as can be known', async () => {
    const { link } = olderOwner();
    const object = await RemoteObject.open(link, id);
    assert.ok(await object.hasChange({ epoch: 3, number: 9 }));
  });
});

describe('a host of the version before', () => {
  test('learns of an append that it was made, or was not, as it expects it', async () => {
    await using world = new ClusterWorld({ leaseMs: 60_000 });
    const a = await world.host('a');
    await a.router.create(id, 'volume');
    const append = async (offset: number) => {
      const request = { id, session: 1, generation: 0, epoch: 0, offset, length: 0 };
      const message = { kind: peerKind.append, head: encodeRequestHead(request), payload: data };
      const { head } = await a.router.handle(hostId('b'), message);
      return decodeAnswerHead(head).result;
    };
    assert.deepEqual([await append(0), await append(4096), await append(4096)], [1, 1, 0]);
    await a.stop();
  });
});
