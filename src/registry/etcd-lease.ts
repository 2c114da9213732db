/** One renewal of a lease of etcd, on a stream of its own with a deadline. */

import type { LeaseId } from '../core/units.ts';
import type { Clock } from '../ports/clock.ts';
import type { EtcdClient } from './etcd-client.ts';
import { deadlineOf } from './etcd-client.ts';

export async function renewOnce(
  client: EtcdClient['leaseClient'],
  { id, withinMs }: { readonly id: LeaseId; readonly withinMs: number },
  clock: Clock,
): Promise<'renewed' | 'lost'> {
  const stream = await client.leaseKeepAlive(deadlineOf(clock, withinMs));
  try {
    const answer = Promise.withResolvers<'renewed' | 'lost'>();
    stream.on('data', ({ TTL }) => answer.resolve(Number(TTL) > 0 ? 'renewed' : 'lost'));
    stream.on('error', (error) => answer.reject(error));
    stream.on('end', () => answer.reject(new Error('etcd has ended the renewal')));
    stream.write({ ID: id });
    return await answer.promise;
  } finally {
    // Not `cancel` alone: etcd3 takes it for a failure of the member as long as it may write.
    stream.end();
    stream.cancel();
  }
}
