/**
 * What etcd's and gRPC's errors mean. They come as classes and texts; what has no line here may have
 * happened or not.
 */

import { isStorageError, StorageError } from '../core/errors.ts';

const kindOf = (error: Error) => error.constructor.name;

/** Never left this process, or refused by etcd before it did anything. */
const notDone = [
  /No connection established/,
  /Name resolution failed/,
  /Waiting for LB pick/,
  /etcdserver: no leader/,
  /etcdserver: too many requests/,
  /etcdserver: (user name is empty|permission denied|invalid auth token|authentication)/,
  /auth store is old/,
];

/** `write`: what was asked for may have happened even so. */
export function translate(error: unknown, what: 'read' | 'write'): Error {
  if (!(error instanceof Error) || isStorageError(error)) return error as Error;
  const { message } = error;
  const make = (code: ConstructorParameters<typeof StorageError>[0]) =>
    new StorageError(code, `etcd: ${message}`, { cause: error });
  if (kindOf(error) === 'ClientClosedError') return make('closed');
  if (kindOf(error) === 'EtcdLeaseInvalidError') return make('fenced');
  if (message.includes('revision has been compacted')) return make('compacted');
  if (message.includes('database space exceeded')) return make('no_space');
  if (message.includes('request is too large')) return make('too_large');
  const isRefused =
    what === 'read' ||
    kindOf(error) === 'BrokenCircuitError' ||
    notDone.some((text) => text.test(message));
  if (!isRefused && kindOf(error) === 'GRPCInvalidArgumentError') return make('invalid');
  return make(isRefused ? 'unavailable' : 'unknown_outcome');
}

/** In this order: the first that matches is meant. */
const mistakes: readonly { readonly text: RegExp; readonly mend: string }[] = [
  { text: /authentication failed/, mend: 'etcd refuses the login; change "user" or "password"' },
  { text: /user name is empty/, mend: 'etcd wants a login; set "user" and "password"' },
  {
    text: /authentication is not enabled/,
    mend: 'etcd has no logins switched on; remove "user" and "password"',
  },
  {
    text: /permission denied/,
    mend: 'the login may not use the keys wharf/; grant it that in etcd, or change "user"',
  },
  {
    text: /alert (bad certificate|certificate required|unknown ca|unsupported certificate)/,
    mend: 'etcd wants another certificate of this host; change "tls.cert" and "tls.key"',
  },
  {
    text: /altname|Hostname\/IP does not match/i,
    mend: 'etcd\'s certificate is for another name; change "endpoints"',
  },
  {
    text: /unable to (verify|get)|self[- ]signed|certificate has expired|CERT_/i,
    mend: 'etcd\'s certificate can\'t be verified; change "tls.ca"',
  },
  {
    text: /before secure TLS connection was established|wrong version number|packet length too long/,
    mend: 'no TLS is spoken there; write http:// in "endpoints"',
  },
  {
    text: /Failed to connect/,
    mend: 'plain connections are closed there; write https:// in "endpoints", or another address',
  },
  {
    text: /Protocol error|UNIMPLEMENTED|HTTP status/,
    mend: 'no etcd is there; change "endpoints"',
  },
];

/** What is wrong with the settings, and which of them to change; undefined: nothing is known. */
export function findMistake(error: unknown): string | undefined {
  const text = error instanceof Error ? error.message : String(error);
  return mistakes.find((mistake) => mistake.text.test(text))?.mend;
}
