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
import type {
  CallOptions,
  PeerAddress,
  PeerHandler,
  PeerMessage,
  Peers,
} from '../../ports/peers.ts';
import type { Random } from '../../ports/random.ts';
import type { Native } from '../native.ts';
import { PeerConnection } from './connection.ts';
import type { PeerIdentity } from './handshake.ts';
import { CalledHandshake, CallerHandshake, refusal } from './handshake.ts';
import { Lines } from './lines.ts';
import type { NativeWireDeps } from './native-wire.ts';
import { NativeWire, ReceiveMemory } from './native-wire.ts';
import type { PeerTls } from './tls.ts';
import { answerTls, bindingOf, callTls, checkCertificate, checkTls } from './tls.ts';
import { SocketWire } from './wire.ts';

const handshakeMsMax = 5000;
const strangersMax = 64;
/** A peer that could not be reached is not tried again at once. */
const reconnectPauseMs = 200;

export interface TcpPeersDeps {
  readonly identity: PeerIdentity;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Without it connections are Node's own, which cost more. */
  readonly native?: Native | undefined;
  /** Without it: plain connections alone. With it: none. */
  readonly tls?: PeerTls;
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
  /** Of those who call again and again with the same words: they wait for no promise. */
  readonly #known = new WeakMap<PeerAddress, PeerConnection>();
  readonly #strangers = new Set<Socket>();
  readonly #dialling = new Set<Socket>();
  /** What was logged of a peer last, so that a line is not said over and over. */
  readonly #said = new Map<string, string>();
  readonly #native: NativeWireDeps | undefined;
  #isClosed = false;

  private constructor(deps: TcpPeersDeps, handler: PeerHandler) {
    this.#deps = deps;
    const { native } = deps;
    this.#native = native && { native, memory: new ReceiveMemory() };
    this.#handler = handler;
    this.#server = createServer((socket) => void this.#welcome(socket));
  }

  /** Listens on `address`, as `10.0.0.1:7000`; port 0: any free one. */
  static async listen(deps: TcpPeersDeps, address: string, handler: PeerHandler) {
    if (deps.tls) checkTls(deps.tls);
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

  call(peer: PeerAddress, message: PeerMessage, options: CallOptions): Promise<PeerMessage> {
    const known = this.#known.get(peer);
    if (known?.isOpen) return known.call(message, options);
    return this.#callAnew(peer, message, options);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const error = new StorageError('closed', 'this host is stopping');
    for (const connection of [...this.#connections]) connection.end(error);
    for (const socket of this.#strangers) socket.destroy();
    for (const socket of this.#dialling) socket.destroy(error);
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #callAnew(...[peer, message, options]: Parameters<Peers['call']>): Promise<PeerMessage> {
    if (this.#isClosed) throw new StorageError('closed', 'this host is stopping');
    const connection = await this.#connectionTo(peer);
    this.#known.set(peer, connection);
    return connection.call(message, options);
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
    const { identity, random, tls } = this.#deps;
    const raw = connect(split(peer.address));
    let socket = raw;
    this.#dialling.add(raw);
    try {
      const lines = await this.#inTime(raw, async () => {
        let binding = '';
        if (tls) {
          const secured = await callTls(raw, tls);
          checkCertificate(secured, 'called');
          binding = bindingOf(secured);
          socket = secured;
        }
        const handshake = new CallerHandshake(identity, peer.host, { random, binding });
        const said = new Lines(socket);
        socket.write(`${handshake.hello}\n`);
        socket.write(`${handshake.prove(await said.next())}\n`);
        handshake.welcome(await said.next());
        return said;
      });
      this.#said.delete(peer.host);
      return this.#begin(socket, peer, lines.rest(), () => this.#dialled.delete(key));
    } catch (error) {
      raw.destroy();
      const { host, address } = peer;
      this.#tell(host, { host, address }, 'a peer can not be reached', error);
      const text = `host ${host} at ${address} can't be reached`;
      throw new StorageError('unavailable', `${text}: ${describeError(error)}`, { cause: error });
    } finally {
      this.#dialling.delete(raw);
    }
  }

  async #welcome(raw: Socket): Promise<void> {
    const { identity, random, tls } = this.#deps;
    const from = raw.remoteAddress ?? 'somebody';
    raw.on('error', () => {});
    if (this.#strangers.size >= strangersMax) {
      const [oldest] = this.#strangers;
      oldest?.destroy();
    }
    this.#strangers.add(raw);
    raw.once('close', () => this.#strangers.delete(raw));
    let socket = raw;
    try {
      const { host, lines } = await this.#inTime(raw, async () => {
        let binding = '';
        if (tls) {
          const secured = await answerTls(raw, tls);
          socket = secured;
          checkCertificate(secured, 'caller');
          binding = bindingOf(secured);
        }
        const handshake = new CalledHandshake(identity, { random, binding });
        const said = new Lines(socket);
        socket.write(`${handshake.challenge(await said.next())}\n`);
        const caller = handshake.check(await said.next());
        socket.write('{}\n');
        return { host: caller, lines: said };
      });
      this.#strangers.delete(raw);
      this.#begin(socket, { host, address: from }, lines.rest(), () => {});
    } catch (error) {
      this.#tell(from, { from }, 'a connection is refused', error);
      socket.end(`${refusal(describeError(error))}\n`);
      socket.destroySoon();
    }
  }

  #begin(socket: Socket, { host }: PeerAddress, early: Uint8Array, onEnd: () => void) {
    const { checksum, clock, log } = this.#deps;
    const deps = {
      ...{ checksum, clock, handler: this.#handler },
      onEnd: (error: Error) => {
        this.#connections.delete(connection);
        onEnd();
        if (!this.#isClosed) log.info({ host, error: describeError(error) }, 'peer is lost');
      },
    };
    const connection: PeerConnection = new PeerConnection(host, deps, (events) => {
      const taken = this.#native && NativeWire.takeOver(this.#native, socket, events);
      if (!taken) return { wire: new SocketWire(socket, events), early };
      return { wire: taken.wire, early: Buffer.concat([early, taken.read]) };
    });
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
