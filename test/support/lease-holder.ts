/**
 * A process that holds the key `kheld` of an etcd registry under a lease, tells when it holds it,
 * and, once it is asked, what it knows of the lease and whether etcd would still let it write:
 *   lease-holder ENDPOINTS TTL
 */

import { systemClock } from '../../src/platform/system-clock.ts';
import { EtcdRegistry } from '../../src/registry/etcd-registry.ts';

const [endpoints = '', ttlMs = '0'] = process.argv.slice(2);
const clock = systemClock(undefined);
const registry = await EtcdRegistry.open({ endpoints: endpoints.split(',') }, clock);
const lease = await registry.grantLease(Number(ttlMs));
const key = 'kheld';
const held = await registry.transact({
  compares: [{ key, is: 'absent' }],
  writes: [{ key, put: Buffer.from('1'), lease: lease.id }],
});
const isLost = new Promise((resolve) => lease.signal.addEventListener('abort', resolve));
process.on('message', async () => {
  // Taken first, as a holder does before it acts.
  const isValid = lease.validUntilMs() > clock.monotonicMs();
  const guard = { key, is: 'at', revision: held.committed ? held.revision : 0 } as const;
  const write = { key: 'kguarded', put: Buffer.from('1') };
  const { committed } = await registry.transact({ compares: [guard], writes: [write] });
  await isLost;
  process.send?.({ isValid, committed });
});
process.send?.('held');
