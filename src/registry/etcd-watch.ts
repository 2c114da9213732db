/**
 * One watch on a stream of its own, until the stream breaks. etcd3's own watcher is not used: after a
 * reconnection it starts behind the revision of the moment, and loses what it had yet to tell.
 */

import { on } from 'node:events';
import type { EventEmitter } from 'node:events';
import { StorageError } from '../core/errors.ts';
import type { KeyRange, WatchEvent } from '../ports/registry.ts';
import type { EtcdClient, WatchResponse } from './etcd-client.ts';
import { bytesOfKey, endOfRange, keyOfBytes } from './etcd-keys.ts';

/** The stream pauses while so many wait for whoever watches. */
const responsesAhead = 16;

export async function* watchOnce(
  client: EtcdClient['watchClient'],
  range: KeyRange,
  fromRevision: number,
  signal: AbortSignal,
): AsyncGenerator<readonly WatchEvent[], void> {
  const stream = await client.watch();
  try {
    const responses = on(stream as unknown as EventEmitter, 'data', {
      signal,
      close: ['end'],
      highWaterMark: responsesAhead,
    });
    stream.write({
      create_request: {
        key: bytesOfKey(range.from),
        range_end: endOfRange(range),
        start_revision: fromRevision + 1,
      },
    });
    for await (const [response] of responses as AsyncIterable<[WatchResponse]>) {
      if (response.canceled) throw ended(response);
      yield* transactionsOf(response);
    }
  } finally {
    // Not `cancel` alone: etcd3 takes it for a failure of the member as long as it may write.
    stream.end();
    stream.cancel();
  }
}

function ended({ compact_revision: compacted, cancel_reason: reason }: WatchResponse): Error {
  if (Number(compacted) > 0)
    return new StorageError('compacted', `changes before revision ${compacted} are forgotten`);
  return new Error(`the watch was ended: ${reason}`);
}

/** etcd never tears a transaction apart unless it is asked to. */
function* transactionsOf({ events }: WatchResponse): Generator<readonly WatchEvent[]> {
  let transaction: WatchEvent[] = [];
  for (const { type, kv } of events) {
    const revision = Number(kv.mod_revision);
    if (transaction[0] && transaction[0].revision !== revision) {
      yield transaction;
      transaction = [];
    }
    const value = type === 'Put' ? kv.value : undefined;
    transaction.push({ key: keyOfBytes(kv.key), revision, value });
  }
  if (transaction.length > 0) yield transaction;
}
