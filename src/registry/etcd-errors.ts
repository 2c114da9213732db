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

interface Mistake {
  readonly text: RegExp;
  /** Setting of `registry.etcd`. */
  readonly key: string;
  readonly found: string;
  readonly mend: string;
}

/** In this order: the first that matches is meant. */
const mistakes: readonly Mistake[] = [
  {
    text: /authentication failed/,
    ...{ key: 'password', found: 'the login is refused', mend: 'change user or password' },
  },
  {
    text: /user name is empty/,
    ...{ key: 'user', found: 'a login is wanted', mend: 'set user and password' },
  },
  {
    text: /authentication is not enabled/,
    ...{ key: 'user', found: 'logins are not switched on', mend: 'remove user and password' },
  },
  {
    text: /permission denied/,
    ...{ key: 'user', found: 'the login may not use the keys wharf/' },
    mend: 'grant it that in etcd, or change user',
  },
  {
    text: /alert (bad certificate|certificate required|unknown ca|unsupported certificate)/,
    ...{ key: 'tls.cert', found: 'another certificate of this host is wanted' },
    mend: 'change tls.cert and tls.key',
  },
  {
    text: /altname|Hostname\/IP does not match/i,
    ...{ key: 'endpoints', found: 'the certificate is for another name', mend: 'write that name' },
  },
  {
    text: /unable to (verify|get)|self[- ]signed|certificate has expired|CERT_/i,
    ...{ key: 'tls.ca', found: "the certificate can't be verified", mend: 'change tls.ca' },
  },
  {
    text: /before secure TLS connection was established|wrong version number|packet length too long/,
    ...{ key: 'endpoints', found: 'no TLS is spoken', mend: 'write http:// there' },
  },
  {
    text: /Failed to connect/,
    ...{ key: 'endpoints', found: 'plain connections are closed' },
    mend: 'write https:// there, or another address',
  },
  {
    text: /Protocol error|UNIMPLEMENTED|HTTP status/,
    ...{ key: 'endpoints', found: 'no etcd answers', mend: 'write another address' },
  },
];

/** What is wrong with the settings, and which of them to change; undefined: nothing is known. */
export function findMistake(error: unknown, endpoint: string): string | undefined {
  const text = error instanceof Error ? error.message : String(error);
  const mistake = mistakes.find((each) => each.text.test(text));
  if (!mistake) return undefined;
  const { key, found, mend } = mistake;
  return `registry.etcd.${key}: found that ${found} at ${endpoint}; ${mend}`;
}
