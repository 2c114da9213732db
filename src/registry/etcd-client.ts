/**
 * The etcd3 package, set up so that trouble is seen soon and gone soon: every call has a deadline
 * (etcd3 knows none, and a call to a member whose leader died hangs), dead connections are found by
 * pings, and a member that failed is tried again after a moment. Nothing is repeated here: a
 * repetition of a transaction that had happened would look like a conflict.
 */

import { ConsecutiveBreaker, circuitBreaker, handleWhen, noop } from 'cockatiel';
import type { IWatchResponse } from 'etcd3';
import { Etcd3, isRecoverableError } from 'etcd3';
import { StorageError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';

export interface EtcdSettings {
  /** `http://HOST:PORT` or `https://HOST:PORT` of each member. */
  readonly endpoints: readonly string[];
  readonly login?: { readonly user: string; readonly password: string };
  /** Contents of PEM files. */
  readonly tls?: { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
}

export type EtcdClient = Pick<Etcd3, 'kv' | 'leaseClient' | 'watchClient' | 'close'>;
export type WatchResponse = IWatchResponse;

const callDeadlineMs = 2000;
const failuresToAvoid = 3;
const avoidMs = 250;

const channel = {
  // etcd closes a connection that is pinged oftener than every 5 s, or that nobody uses.
  'grpc.keepalive_time_ms': 5500,
  'grpc.keepalive_timeout_ms': 1000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 500,
  // A page of large values is larger than gRPC's default of 4 MiB.
  'grpc.max_receive_message_length': -1,
  'grpc.enable_retries': 0,
  // Each client has connections of its own: one that is closed closes nobody else's.
  'grpc.use_local_subchannel_pool': 1,
};

/** For a call or a stream that must not last. Milliseconds since 1970, as gRPC wants it. */
export function deadlineOf(clock: Clock, withinMs = callDeadlineMs): { deadline: number } {
  return { deadline: Number(clock.wallNs() / 1_000_000n) + Math.min(withinMs, callDeadlineMs) };
}

/** Connects to nobody yet. `invalid` where the settings can't work. */
export function makeEtcdClient(settings: EtcdSettings, clock: Clock): EtcdClient {
  const { endpoints, login, tls } = settings;
  const form = 'http://HOST:PORT or https://HOST:PORT';
  for (const endpoint of endpoints)
    if (!/^https?:\/\/[^/\s]+:\d+$/.test(endpoint))
      throw wrong('endpoints', JSON.stringify(endpoint), form);
  if (endpoints.length === 0) throw wrong('endpoints', 'none', 'one or more');
  if (new Set(endpoints.map((endpoint) => endpoint.split(':')[0])).size > 1)
    throw wrong('endpoints', 'both http:// and https://', 'one of them');
  if (tls && !endpoints[0]?.startsWith('https:'))
    throw wrong('tls', 'it beside endpoints with http://', 'it with https:// alone');
  if ((tls?.cert === undefined) !== (tls?.key === undefined))
    throw wrong('tls', 'one of cert and key', 'both or none');
  const credentials = tls && {
    rootCertificate: tls.ca,
    ...(tls.key && tls.cert && { privateKey: tls.key, certChain: tls.cert }),
  };
  try {
    return new Etcd3({
      hosts: [...endpoints],
      ...(login && { auth: { username: login.user, password: login.password } }),
      ...(credentials && { credentials }),
      grpcOptions: channel,
      defaultCallOptions: ({ isStream }) => (isStream ? {} : deadlineOf(clock)),
      faultHandling: {
        global: noop,
        host: () =>
          circuitBreaker(handleWhen(isRecoverableError), {
            halfOpenAfter: avoidMs,
            breaker: new ConsecutiveBreaker(failuresToAvoid),
          }),
      },
    });
  } catch (error) {
    throw wrong('tls', 'what is no certificate, or not its key', 'PEM files that fit', error);
  }
}

function wrong(key: string, found: string, allowed: string, cause?: unknown): StorageError {
  const text = `registry.etcd.${key}: found ${found}; allowed is ${allowed}`;
  return new StorageError('invalid', text, { cause });
}
