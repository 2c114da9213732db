/** The order of attempts as their sender keeps it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import { decodeRequestHead, encodeAnswerHead, peerKind } from '../../../src/format/peer-message.ts';
import type { PeerMessage, Peers } from '../../../src/ports/peers.ts';
import { PeerLinks } from '../../../src/router/peers/peer-link.ts';
import { RequestOrder } from '../../../src/router/peers/request-order.ts';

const id = objectId('6'.repeat(32));
const [a, b] = [hostId('a'), hostId('b')];
const request = { kind: peerKind.open };
const answer = { sizeBytes: 0, allocatedBytes: 0, result: 0, epoch: 0, isVolume: false };

test('a process that listens where an earlier one did takes what is sent after it is known', async () => {
  let order = new RequestOrder();
  let isLost = false;
  const peers: Peers = {
    call: async (_, { kind, head }): Promise<PeerMessage> => {
      await order.run(a, decodeRequestHead(head), () => undefined);
      if (isLost) throw new StorageError('unknown_outcome', 'the answer is lost');
      return { kind, head: encodeAnswerHead(answer), payload: new Uint8Array(0) };
    },
    close: async () => {},
  };
  const links = new PeerLinks(peers, () => 1);
  const record = { id: b, data: 'b', address: 'b:7000', mount: '/m', pid: 1, shared: {} };
  const old = links.to({ ...record, instance: 'one' });
  const lose = async () => {
    isLost = true;
    await assert.rejects(old.ask(id, request), /the answer is lost/);
    isLost = false;
  };
  await lose();
  order = new RequestOrder();
  // The registry does not say yet that another process is there.
  await old.ask(id, request);
  const next = links.to({ ...record, instance: 'two' });
  await next.ask(id, request);
  await lose();
  await old.ask(id, request);
  await next.ask(id, request);
});
