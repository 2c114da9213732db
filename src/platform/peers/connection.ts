/**
 * One connection after its handshake: requests in both directions, numbered, answered in any order.
 *
 * Bounds: who sends waits while the socket holds more than `sendBytesMax`; while more than
 * `handledBytesMax` of requests are being handled, nothing is read. Signs of life: a ping after a
 * second of silence; who has heard nothing for `silentMsMax` gives the connection up.
 */

import type { Socket } from 'node:net';
import { describeError, isStorageError, StorageError, toErrorCode } from '../../core/errors.ts';
import type { HostId } from '../../core/units.ts';
import { MiB } from '../../core/units.ts';
import type { Frame } from '../../format/peer-frame.ts';
import { decodeErrorHead, encodeErrorHead, encodeFrame } from '../../format/peer-frame.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { PeerHandler, PeerMessage } from '../../ports/peers.ts';
import { FrameReader } from './frame-reader.ts';

const sendBytesMax = 8 * MiB;
const handledBytesMax = 64 * MiB;
const beatMs = 1000;
const silentMsMax = 5000;
const nothing = new Uint8Array(0);

interface Pending {
  readonly resolve: (answer: PeerMessage) => void;
  readonly reject: (error: Error) => void;
  readonly deadlineMs: number;
}

export interface ConnectionDeps {
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly handler: PeerHandler;
  /** Once, when nothing more passes. */
  readonly onEnd: (error: Error) => void;
}

export class PeerConnection {
  readonly peer: HostId;
  readonly #socket: Socket;
  readonly #deps: ConnectionDeps;
  readonly #reader: FrameReader;
  readonly #pending = new Map<number, Pending>();
  readonly #ended = new AbortController();
  #nextNumber = 1;
  #handledBytes = 0;
  #isGathering = false;
  #heardMs: number;

  /** `early`: what came behind the handshake. */
  constructor(socket: Socket, peer: HostId, deps: ConnectionDeps, early: Uint8Array) {
    this.#socket = socket;
    this.peer = peer;
    this.#deps = deps;
    this.#heardMs = deps.clock.monotonicMs();
    this.#reader = new FrameReader(deps.checksum, (frame) => this.#receive(frame));
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.end(error));
    socket.on('close', () => this.end(new Error('the connection was closed')));
    this.#take(early);
    void this.#beat();
  }

  get isOpen(): boolean {
    return !this.#ended.signal.aborted;
  }

  /** As Peers.call, on this connection. */
  async call(
    { kind, head, payload }: PeerMessage,
    { deadlineMs, signal }: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<PeerMessage> {
    await this.#writable();
    signal?.throwIfAborted();
    if (!this.isOpen) throw new StorageError('unavailable', `host ${this.peer} is not connected`);
    const number = this.#nextNumber;
    this.#nextNumber = number === 0xffff_ffff ? 1 : number + 1;
    const { promise, resolve, reject } = Promise.withResolvers<PeerMessage>();
    const until = this.#deps.clock.monotonicMs() + deadlineMs;
    this.#pending.set(number, { resolve, reject, deadlineMs: until });
    const onAbort = () => this.#fail(number, signal?.reason as Error);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#send({ type: 'request', kind, number, head, payload });
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Whoever waits for an answer learns that none will come. Idempotent. */
  end(error: Error): void {
    if (!this.isOpen) return;
    this.#ended.abort(error);
    this.#socket.destroy();
    for (const { reject } of this.#pending.values())
      reject(new StorageError('unknown_outcome', `host ${this.peer} was lost`, { cause: error }));
    this.#pending.clear();
    this.#deps.onEnd(error);
  }

  #take(chunk: Uint8Array): void {
    if (!this.isOpen) return;
    this.#heardMs = this.#deps.clock.monotonicMs();
    try {
      this.#reader.take(chunk);
    } catch (error) {
      this.end(error as Error);
    }
  }

  #receive(frame: Frame): void {
    const { type, kind, number, head, payload } = frame;
    if (type === 'request') return void this.#handle(frame);
    if (type === 'ping') return this.#send({ ...frame, type: 'pong' });
    if (type === 'pong') return;
    const pending = this.#pending.get(number);
    this.#pending.delete(number);
    if (type === 'answer') return pending?.resolve({ kind, head, payload });
    const { code, message } = decodeErrorHead(head);
    pending?.reject(new StorageError(toErrorCode(code) ?? 'failed', message));
  }

  async #handle({ kind, number, head, payload }: Frame): Promise<void> {
    const bytes = head.length + payload.length;
    this.#handledBytes += bytes;
    if (this.#handledBytes > handledBytesMax) this.#socket.pause();
    try {
      const answer = await this.#deps.handler(this.peer, { kind, head, payload });
      await this.#writable();
      this.#send({ type: 'answer', number, ...answer });
    } catch (error) {
      const code = isStorageError(error) ? error.code : 'failed';
      const text = encodeErrorHead(code, describeError(error));
      this.#send({ type: 'error', kind, number, head: text, payload: nothing });
    } finally {
      this.#handledBytes -= bytes;
      if (this.#handledBytes <= handledBytesMax) this.#socket.resume();
    }
  }

  #send(frame: Frame): void {
    if (!this.isOpen) return;
    const { payload } = frame;
    this.#gather();
    this.#socket.write(encodeFrame(frame, this.#deps.checksum));
    if (payload.length > 0) this.#socket.write(payload);
  }

  /** What is sent in one turn of the loop goes out by one system call. */
  #gather(): void {
    if (this.#isGathering) return;
    this.#isGathering = true;
    this.#socket.cork();
    process.nextTick(() => {
      this.#isGathering = false;
      this.#socket.uncork();
    });
  }

  async #writable(): Promise<void> {
    while (this.isOpen && this.#socket.writableLength > sendBytesMax)
      await new Promise<void>((resolve) => {
        const done = () => {
          this.#socket.off('drain', done);
          this.#socket.off('close', done);
          resolve();
        };
        this.#socket.on('drain', done);
        this.#socket.on('close', done);
      });
  }

  #fail(number: number, error: Error): void {
    this.#pending.get(number)?.reject(error);
    this.#pending.delete(number);
  }

  async #beat(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#ended;
    while (this.isOpen) {
      await clock.sleep(beatMs, { signal }).catch(() => {});
      const now = clock.monotonicMs();
      for (const [number, { deadlineMs }] of this.#pending)
        if (now >= deadlineMs)
          this.#fail(number, new StorageError('unknown_outcome', `no answer from ${this.peer}`));
      // While nothing is read by one's own will, silence says nothing.
      if (this.#socket.isPaused()) this.#heardMs = now;
      else if (now - this.#heardMs > silentMsMax)
        this.end(new Error(`host ${this.peer} has been silent for ${silentMsMax} ms`));
      else if (now - this.#heardMs >= beatMs)
        this.#send({ type: 'ping', kind: 0, number: 0, head: nothing, payload: nothing });
    }
  }
}
