/**
 * Peers over TCP: one listener, and one connection to each peer that is called, made when it is
 * first needed and again when it is lost. Nobody is believed before the handshake (handshake.ts);
 * strangers have little time, little memory and few places.
 */

import type { AddressInfo, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { describeError, StorageError } from '../../core/errors.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { PeerAddress, PeerHandler, PeerMessage, Peers } from '../../ports/peers.ts';
import type { Random } from '../../ports/random.ts';
import { PeerConnection } from './connection.ts';
import type { PeerIdentity } from './handshake.ts';
import { CalledHandshake, CallerHandshake, lineBytesMax, refusal } from './handshake.ts';

const handshakeMsMax = 5000;
const strangersMax = 64;
/** A peer that could not be reached is not tried again at once. */
const reconnectPauseMs = 200;
const newline = 0x0a;

export interface TcpPeersDeps {
  readonly identity: PeerIdentity;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

interface Dialled {
  readonly connecting: Promise<PeerConnection>;
  /** When it failed; undefined while nobody knows. */
  failedMs: number | undefined;
}

export class TcpPeers implements Peers {
  readonly #deps: TcpPeersDeps;
  readonly #server: Server;
  readonly #handler: PeerHandler;
  readonly #dialled = new Map<string, Dialled>();
  readonly #connections = new Set<PeerConnection>();
  readonly #strangers = new Set<Socket>();
  readonly #dialling = new Set<Socket>();
  /** What was logged of a peer last, so that a line is not said over and over. */
  readonly #said = new Map<string, string>();
  #isClosed = false;

  private constructor(deps: TcpPeersDeps, handler: PeerHandler) {
    this.#deps = deps;
    this.#handler = handler;
    this.#server = createServer((socket) => void this.#welcome(socket));
  }

  /** Listens on `address`, as `10.0.0.1:7000`; port 0: any free one. */
  static async listen(deps: TcpPeersDeps, address: string, handler: PeerHandler) {
    const peers = new TcpPeers(deps, handler);
    const { host, port } = split(address);
    await new Promise<void>((resolve, reject) => {
      peers.#server.once('error', (error: NodeJS.ErrnoException) =>
        reject(new StorageError('busy', `peers.listen ${address} can't be used: ${error.code}`)),
      );
      peers.#server.listen(port, host, resolve);
    });
    return peers;
  }

  /** Where others reach it. */
  get address(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `${address}:${port}`;
  }

  async call(
    peer: PeerAddress,
    message: PeerMessage,
    options: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<PeerMessage> {
    if (this.#isClosed) throw new StorageError('closed', 'this host is stopping');
    return (await this.#connectionTo(peer)).call(message, options);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const error = new StorageError('closed', 'this host is stopping');
    for (const connection of [...this.#connections]) connection.end(error);
    for (const socket of this.#strangers) socket.destroy();
    for (const socket of this.#dialling) socket.destroy(error);
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #connectionTo(peer: PeerAddress): Promise<PeerConnection> {
    const key = `${peer.host} ${peer.address}`;
    const known = this.#dialled.get(key);
    if (known) {
      const { failedMs } = known;
      const isOver =
        failedMs !== undefined && this.#deps.clock.monotonicMs() - failedMs > reconnectPauseMs;
      if (!isOver) return known.connecting;
    }
    const connecting = this.#dial(peer, key);
    const dialled: Dialled = { connecting, failedMs: undefined };
    connecting.catch(() => {
      dialled.failedMs = this.#deps.clock.monotonicMs();
    });
    this.#dialled.set(key, dialled);
    return connecting;
  }

  async #dial(peer: PeerAddress, key: string): Promise<PeerConnection> {
    const { identity, random } = this.#deps;
    const socket = connect(split(peer.address));
    const lines = new Lines(socket);
    this.#dialling.add(socket);
    try {
      const handshake = new CallerHandshake(identity, peer.host, random);
      const early = await this.#inTime(socket, async () => {
        socket.write(`${handshake.hello}\n`);
        socket.write(`${handshake.prove(await lines.next())}\n`);
        handshake.welcome(await lines.next());
        return lines.rest();
      });
      this.#said.delete(peer.host);
      return this.#begin(socket, peer, early, () => this.#dialled.delete(key));
    } catch (error) {
      socket.destroy();
      const { host, address } = peer;
      this.#tell(host, { host, address }, 'a peer can not be reached', error);
      const text = `host ${host} at ${address} can't be reached`;
      throw new StorageError('unavailable', `${text}: ${describeError(error)}`, { cause: error });
    } finally {
      this.#dialling.delete(socket);
    }
  }

  async #welcome(socket: Socket): Promise<void> {
    const { identity, random } = this.#deps;
    const from = socket.remoteAddress ?? 'somebody';
    socket.on('error', () => {});
    if (this.#strangers.size >= strangersMax) {
      const [oldest] = this.#strangers;
      oldest?.destroy();
    }
    this.#strangers.add(socket);
    socket.once('close', () => this.#strangers.delete(socket));
    const lines = new Lines(socket);
    try {
      const handshake = new CalledHandshake(identity, random);
      const host = await this.#inTime(socket, async () => {
        socket.write(`${handshake.challenge(await lines.next())}\n`);
        const caller = handshake.check(await lines.next());
        socket.write('{}\n');
        return caller;
      });
      this.#strangers.delete(socket);
      this.#begin(socket, { host, address: from }, lines.rest(), () => {});
    } catch (error) {
      this.#tell(from, { from }, 'a connection is refused', error);
      socket.end(`${refusal(describeError(error))}\n`);
      socket.destroySoon();
    }
  }

  #begin(socket: Socket, { host }: PeerAddress, early: Uint8Array, onEnd: () => void) {
    const { checksum, clock, log } = this.#deps;
    const connection: PeerConnection = new PeerConnection(
      socket,
      host,
      {
        ...{ checksum, clock, handler: this.#handler },
        onEnd: (error) => {
          this.#connections.delete(connection);
          onEnd();
          if (!this.#isClosed) log.info({ host, error: describeError(error) }, 'peer is lost');
        },
      },
      early,
    );
    if (connection.isOpen) this.#connections.add(connection);
    return connection;
  }

  async #inTime<T>(socket: Socket, action: () => Promise<T>): Promise<T> {
    const done = new AbortController();
    this.#deps.clock.sleep(handshakeMsMax, { signal: done.signal }).then(
      () => socket.destroy(new Error('the handshake took too long')),
      () => {},
    );
    try {
      return await action();
    } finally {
      done.abort();
    }
  }

  #tell(about: string, facts: object, what: string, error: unknown): void {
    const text = describeError(error);
    if (this.#isClosed || this.#said.get(about) === text) return;
    if (this.#said.size > strangersMax) this.#said.clear();
    this.#said.set(about, text);
    this.#deps.log.warn({ ...facts, error: text }, what);
  }
}

function split(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  return {
    host: address.slice(0, at).replace(/^\[|\]$/g, ''),
    port: Number(address.slice(at + 1)),
  };
}

/** Lines of a handshake, and what comes behind them. */
class Lines {
  readonly #socket: Socket;
  #bytes = Buffer.alloc(0);
  #failure: Error | undefined;
  #wake: () => void = () => {};
  readonly #onData = (chunk: Buffer) => {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    // Nobody but a stranger sends more than a line before he is answered.
    if (this.#bytes.length > lineBytesMax) this.#socket.pause();
    this.#wake();
  };
  readonly #onEnd = (error?: Error) => {
    this.#failure ??= error instanceof Error ? error : new Error('the connection was closed');
    this.#wake();
  };

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', this.#onData);
    socket.on('error', this.#onEnd);
    socket.on('close', this.#onEnd);
  }

  async next(): Promise<string> {
    for (;;) {
      const end = this.#bytes.indexOf(newline);
      if (end >= 0 && end <= lineBytesMax) {
        const line = this.#bytes.toString('utf8', 0, end);
        this.#bytes = this.#bytes.subarray(end + 1);
        return line;
      }
      if (this.#bytes.length > lineBytesMax) throw new StorageError('invalid', 'not a handshake');
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** What came behind the last line; the socket is somebody else's from now on. */
  rest(): Uint8Array {
    this.#socket.off('data', this.#onData);
    this.#socket.off('error', this.#onEnd);
    this.#socket.off('close', this.#onEnd);
    if (this.#socket.isPaused()) this.#socket.resume();
    return this.#bytes;
  }
}
