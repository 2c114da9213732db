/**
 * Asks daemons' admin API, which listens on loopback, from within the network namespace of their
 * host: orders come from the parent, by number.
 */

import { call } from '../../src/cli/client.ts';
import type { AdminAnswer, AdminOrder } from './admin.ts';

/** Longer than a daemon that is asked lets anybody wait; a daemon that is stopped answers later. */
const patienceMs = 30_000;

process.on('message', ({ number, admin, method, path, query }: AdminOrder) => {
  const tell = (answer: AdminAnswer) => process.send?.(answer);
  const patience = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error('no answer')), patienceMs).unref();
  });
  Promise.race([call<object>(admin, method, path, query), patience]).then(
    (found) => tell({ number, found }),
    (error: Error) => tell({ number, failure: error.message }),
  );
});
process.on('disconnect', () => process.exit());
process.on('SIGINT', () => {});
process.send?.('ready');
