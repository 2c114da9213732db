/**
 * TLS 1.3 between peers, under the handshake: both sides show a certificate that the vPool's
 * authority has signed. Names in certificates are not looked at: which host the other one is, the
 * handshake proves by the cluster's key (handshake.ts), for this connection alone (`bindingOf`).
 */

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { connect, createSecureContext, createServer } from 'node:tls';
import { StorageError } from '../../core/errors.ts';

/** Contents of PEM files. */
export interface PeerTls {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

/** Certificates are checked here, so that who is refused can be told why. */
const options = { minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: false } as const;
/** The first byte of a connection with TLS; no line of a handshake begins so. */
const tlsHandshake = 0x16;

/** What OpenSSL says of plain text. */
const noTlsThere = /wrong version number|packet length too long/;

const bindingBytes = 32;
const bindingLabel = 'EXPORTER-wharf-peers';
const emptyContext = Buffer.alloc(0);

const isTls = (bytes: Uint8Array) => bytes[0] === tlsHandshake;

const oneSided = () =>
  new StorageError('not_permitted', 'one host speaks TLS, the other does not: check peers.tls');

/** Throws `invalid` where no connection could ever be made with them. */
export function checkTls(tls: PeerTls): void {
  try {
    createSecureContext({ ...tls, ...options });
  } catch (cause) {
    const text = 'peers.tls: found what is no certificate, or not its key; allowed are PEM files';
    throw new StorageError('invalid', `${text} that fit`, { cause });
  }
}

/** Throws where these are the first bytes of somebody who speaks TLS to a host that does not. */
export function throwIfTls(bytes: Uint8Array): void {
  if (isTls(bytes)) throw oneSided();
}

/** Throws where the other side has shown no certificate, or not a right one. */
export function checkCertificate(socket: TLSSocket, whose: string): void {
  if (socket.authorized) return;
  // Typed as an error, and a code in truth.
  const reason = String(socket.authorizationError);
  const text = `the certificate of the ${whose} can't be verified: check peers.tls (${reason})`;
  throw new StorageError('not_permitted', text);
}

/** The same at both ends of a connection, and at no other one. */
export function bindingOf(socket: TLSSocket): string {
  return socket.exportKeyingMaterial(bindingBytes, bindingLabel, emptyContext).toString('hex');
}

/** Of a connection that is being made. The certificate is still to be checked. */
export function callTls(raw: Socket, tls: PeerTls): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const refuse = (error: Error) => reject(noTlsThere.test(error.message) ? oneSided() : error);
    raw.once('error', refuse);
    const checkServerIdentity = () => undefined;
    const socket = connect({ ...tls, ...options, socket: raw, checkServerIdentity });
    socket.on('error', refuse);
    socket.once('close', () => reject(new Error('the connection was closed')));
    socket.once('secureConnect', () => resolve(socket));
  });
}

/** Of a connection that came. The certificate is still to be checked. */
export async function answerTls(raw: Socket, tls: PeerTls): Promise<TLSSocket> {
  const first = await firstBytes(raw);
  if (!isTls(first)) throw oneSided();
  raw.unshift(first);
  return new Promise((resolve, reject) => {
    // A server for each connection: what it tells is about this one, and it resumes none, which would
    // count as authorized without a certificate.
    const server = createServer({ ...tls, ...options });
    server.once('tlsClientError', reject);
    server.once('secureConnection', (socket) => {
      socket.on('error', () => {});
      resolve(socket);
    });
    server.emit('connection', raw);
  });
}

function firstBytes(raw: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    raw.once('data', (bytes) => {
      raw.pause();
      resolve(bytes);
    });
    raw.once('close', () => reject(new Error('the connection was closed')));
  });
}
