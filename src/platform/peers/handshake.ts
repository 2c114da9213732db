/**
 * How two daemons prove to each other that they hold the cluster's key, before anything else is
 * said. Each message is one line of JSON, at most 1 KiB:
 *
 *   caller   hello      {versions, vpool, host, instance, to, nonce}
 *   called   challenge  {version, host, instance, nonce, mac}   mac: "called" and both messages
 *   caller   proof      {mac}                                   mac: "caller" and both messages
 *   called   welcome    {}                                      or at any time: refused {why}
 *
 * A mac is HMAC-SHA256 with the key. Both nonces are in it, so nothing said earlier serves again,
 * and the two words keep one side's mac from serving as the other's. Over TLS each mac also covers
 * what both ends of one TLS connection alone know, so nobody can stand between two of them.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { StorageError } from '../../core/errors.ts';
import type { HostId } from '../../core/units.ts';
import { hostId } from '../../core/units.ts';
import type { Random } from '../../ports/random.ts';

export const lineBytesMax = 1024;
const nonceBytes = 32;
/** Versions of frames and messages that this program speaks. */
const spoken = { lowest: 1, highest: 1 } as const;

export interface PeerIdentity {
  readonly host: HostId;
  /** Random, of this process. */
  readonly instance: string;
  readonly vpool: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
}

/** What the lines are said over. */
export interface Saying {
  readonly random: Random;
  /** Known at both ends of a TLS connection alone; empty without TLS. */
  readonly binding: string;
}

type Fields = Readonly<Record<string, unknown>>;

function parse(line: string): Fields {
  try {
    const fields: unknown = JSON.parse(line);
    if (typeof fields === 'object' && fields !== null) return fields as Fields;
  } catch {
    // Not a line of a handshake either.
  }
  throw new StorageError('invalid', 'not a handshake');
}

function textOf(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === 'string') return value;
  throw new StorageError('invalid', `handshake: ${name} is missing`);
}

function numberOf(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw new StorageError('invalid', `handshake: ${name} is missing`);
}

function macOf(key: Uint8Array, who: 'caller' | 'called', ...said: readonly string[]): string {
  return createHmac('sha256', key)
    .update([who, ...said].join('\n'))
    .digest('hex');
}

/** Tells two keys apart and nothing more of them. No line of a handshake is this text. */
export function fingerprintOf(key: Uint8Array): string {
  return createHmac('sha256', key).update('fingerprint').digest('hex');
}

function isRight(found: string, expected: string): boolean {
  const isMac = /^[0-9a-f]{64}$/.test(found);
  return isMac && timingSafeEqual(Buffer.from(found, 'hex'), Buffer.from(expected, 'hex'));
}

const wrongKey = (host: string) =>
  new StorageError('not_permitted', `host ${host} has another cluster key: check peers.key`);

const wrongHost = (host: string, expected: string) =>
  new StorageError(
    'not_permitted',
    `host ${host} answers where ${expected} should be: check peers.listen of both`,
  );

const nonceOf = (random: Random) => Buffer.from(random.bytes(nonceBytes)).toString('hex');

/** The caller's half: gives lines to send, takes those that come. */
export class CallerHandshake {
  readonly hello: string;
  readonly #identity: PeerIdentity;
  readonly #to: HostId;
  readonly #binding: string;

  constructor(identity: PeerIdentity, to: HostId, { random, binding }: Saying) {
    this.#identity = identity;
    this.#to = to;
    this.#binding = binding;
    const { vpool, host, instance } = identity;
    const versions = [spoken.lowest, spoken.highest];
    this.hello = JSON.stringify({ versions, vpool, host, instance, to, nonce: nonceOf(random) });
  }

  /** Gives the proof. Throws what is wrong with the called one. */
  prove(challenge: string): string {
    const { key } = this.#identity;
    const fields = parse(challenge);
    throwIfRefused(fields);
    const { mac, ...rest } = fields;
    const host = textOf(fields, 'host');
    if (host !== this.#to) throw wrongHost(host, this.#to);
    const said = [this.hello, JSON.stringify(rest), this.#binding];
    if (typeof mac !== 'string' || !isRight(mac, macOf(key, 'called', ...said)))
      throw wrongKey(host);
    return JSON.stringify({ mac: macOf(key, 'caller', ...said) });
  }

  /** Throws where the called one refused. */
  welcome(line: string): void {
    throwIfRefused(parse(line));
  }
}

function throwIfRefused(fields: Fields): void {
  if (typeof fields['refused'] === 'string')
    throw new StorageError('not_permitted', fields['refused']);
}

export const refusal = (why: string) => JSON.stringify({ refused: why });

/** The called one's half. */
export class CalledHandshake {
  readonly #identity: PeerIdentity;
  readonly #saying: Saying;
  /** What macs cover. */
  #said: readonly string[] = [];
  #from: HostId | undefined;

  constructor(identity: PeerIdentity, saying: Saying) {
    this.#identity = identity;
    this.#saying = saying;
  }

  /** Gives the challenge. Throws what is wrong with the caller, in words that it may hear. */
  challenge(hello: string): string {
    const { host, instance, vpool, key } = this.#identity;
    const fields = parse(hello);
    const from = hostId(textOf(fields, 'host'));
    if (textOf(fields, 'vpool') !== vpool)
      throw new StorageError('not_permitted', `this is vPool ${vpool}`);
    const to = textOf(fields, 'to');
    if (to !== host) throw wrongHost(host, to);
    if (from === host && textOf(fields, 'instance') !== instance)
      throw new StorageError('not_permitted', `host id ${host} is used twice`);
    const version = commonVersion(fields);
    this.#from = from;
    const { random, binding } = this.#saying;
    const challenge = { version, host, instance, nonce: nonceOf(random) };
    this.#said = [hello, JSON.stringify(challenge), binding];
    return JSON.stringify({ ...challenge, mac: macOf(key, 'called', ...this.#said) });
  }

  /** Gives who the caller is. Throws where it has no right to be here. */
  check(proof: string): HostId {
    const { key } = this.#identity;
    const expected = macOf(key, 'caller', ...this.#said);
    if (!this.#from || !isRight(textOf(parse(proof), 'mac'), expected))
      throw wrongKey(this.#from ?? 'unknown');
    return this.#from;
  }
}

function commonVersion(fields: Fields): number {
  const range = fields['versions'];
  const [lowest, highest] = Array.isArray(range) ? (range as unknown[]) : [];
  const theirs = {
    lowest: numberOf({ lowest }, 'lowest'),
    highest: numberOf({ highest }, 'highest'),
  };
  const version = Math.min(theirs.highest, spoken.highest);
  if (version < theirs.lowest || version < spoken.lowest)
    throw new StorageError(
      'unsupported',
      `this host speaks versions ${spoken.lowest} to ${spoken.highest}, ` +
        `not ${theirs.lowest} to ${theirs.highest}`,
    );
  return version;
}
