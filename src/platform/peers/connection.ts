/**
 * One connection after its handshake: requests in both directions, numbered, answered in any order.
 *
 * Bounds: who sends waits while more than `sendBytesMax` have not gone out; while requests that are
 * being handled hold more than `handledBytesMax`, nothing is read. Signs of life: a ping after a
 * second of silence; who has heard nothing for `silentMsMax` gives the connection up.
 */

import type { Socket } from 'node:net';
import { describeError, isStorageError, StorageError, toErrorCode } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import { isPending } from '../../core/eventually.ts';
import type { HostId } from '../../core/units.ts';
import { MiB } from '../../core/units.ts';
import type { Frame } from '../../format/peer-frame.ts';
import { decodeErrorHead, encodeErrorHead } from '../../format/peer-frame.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { PeerHandler, PeerMessage, Peers } from '../../ports/peers.ts';
import { FrameReader } from './frame-reader.ts';
import { FrameWriter } from './frame-writer.ts';

const sendBytesMax = 8 * MiB;
const handledBytesMax = 64 * MiB;
/** Of so many requests each goes at once. */
const fewPending = 8;
const beatMs = 1000;
const silentMsMax = 5000;
const nothing = new Uint8Array(0);

type CallOptions = Parameters<Peers['call']>[2];

interface Pending {
  readonly resolve: (answer: PeerMessage) => void;
  readonly reject: (error: Error) => void;
  readonly deadlineMs: number;
  /** To the signal of who waits. */
  stopListening: (() => void) | undefined;
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
  readonly #writer: FrameWriter;
  readonly #pending = new Map<number, Pending>();
  readonly #ended = new AbortController();
  #nextNumber = 1;
  #handledBytes = 0;
  #draining: Promise<void> | undefined;
  #heardMs: number;
  /** What was sent in one turn of the loop goes out by one system call. */
  readonly #flush = () => {
    if (!this.isOpen) return;
    const socket = this.#socket;
    const parts = this.#writer.take();
    if (parts.length > 1) socket.cork();
    for (const part of parts) socket.write(part);
    if (parts.length > 1) socket.uncork();
    if (socket.writableLength === 0) this.#writer.reuse();
  };

  /** `early`: what came behind the handshake. */
  constructor(socket: Socket, peer: HostId, deps: ConnectionDeps, early: Uint8Array) {
    this.#socket = socket;
    this.peer = peer;
    this.#deps = deps;
    this.#heardMs = deps.clock.monotonicMs();
    this.#reader = new FrameReader(deps.checksum, (frame) => this.#receive(frame));
    this.#writer = new FrameWriter(deps.checksum);
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
  call(message: PeerMessage, options: CallOptions): Promise<PeerMessage> {
    if (this.#isFull) return this.#drained().then(() => this.call(message, options));
    const { deadlineMs, signal } = options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (!this.isOpen) throw new StorageError('unavailable', `host ${this.peer} is not connected`);
      const number = this.#nextNumber;
      this.#nextNumber = number === 0xffff_ffff ? 1 : number + 1;
      const until = this.#deps.clock.monotonicMs() + deadlineMs;
      const pending: Pending = { resolve, reject, deadlineMs: until, stopListening: undefined };
      this.#pending.set(number, pending);
      if (signal) {
        const onAbort = () => this.#settle(number)?.reject(signal.reason as Error);
        signal.addEventListener('abort', onAbort, { once: true });
        pending.stopListening = () => signal.removeEventListener('abort', onAbort);
      }
      const { kind, head, payload } = message;
      this.#send({ type: 'request', kind, number, head, payload });
    });
  }

  /** Whoever waits for an answer learns that none will come. Idempotent. */
  end(error: Error): void {
    if (!this.isOpen) return;
    this.#ended.abort(error);
    this.#socket.destroy();
    for (const number of [...this.#pending.keys()]) {
      const lost = new StorageError('unknown_outcome', `host ${this.peer} was lost`, {
        cause: error,
      });
      this.#settle(number)?.reject(lost);
    }
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
    if (type === 'request') return this.#handle(frame);
    if (type === 'ping') return this.#send({ ...frame, type: 'pong' });
    if (type === 'pong') return;
    const pending = this.#settle(number);
    if (type === 'answer') return pending?.resolve({ kind, head, payload });
    const { code, message } = decodeErrorHead(head);
    pending?.reject(new StorageError(toErrorCode(code) ?? 'failed', message));
  }

  /** What waits for the answer, and does not any more. */
  #settle(number: number): Pending | undefined {
    const pending = this.#pending.get(number);
    this.#pending.delete(number);
    pending?.stopListening?.();
    return pending;
  }

  #handle(request: Frame): void {
    const { kind, number, head, payload } = request;
    try {
      const answer = this.#deps.handler(this.peer, { kind, head, payload });
      if (isPending(answer) || this.#isFull) void this.#answerLater(request, answer);
      else this.#answer(number, answer);
    } catch (error) {
      this.#refuse(request, error);
    }
  }

  async #answerLater(request: Frame, answer: Eventually<PeerMessage>): Promise<void> {
    // Parts of a chunk keep the whole of it.
    const bytes = Math.max(request.head.buffer.byteLength, request.payload.buffer.byteLength);
    this.#handledBytes += bytes;
    if (this.#handledBytes > handledBytesMax) this.#socket.pause();
    try {
      const found = await answer;
      while (this.#isFull) await this.#drained();
      this.#answer(request.number, found);
    } catch (error) {
      this.#refuse(request, error);
    } finally {
      this.#handledBytes -= bytes;
      if (this.#handledBytes <= handledBytesMax && this.#socket.isPaused()) this.#socket.resume();
    }
  }

  #answer(number: number, { kind, head, payload }: PeerMessage): void {
    this.#send({ type: 'answer', kind, number, head, payload });
  }

  #refuse({ kind, number }: Frame, error: unknown): void {
    const code = isStorageError(error) ? error.code : 'failed';
    const head = encodeErrorHead(code, describeError(error));
    this.#send({ type: 'error', kind, number, head, payload: nothing });
  }

  #send(frame: Frame): void {
    if (!this.isOpen) return;
    if (this.#writer.bytes === 0) this.#flushSoon();
    this.#writer.add(frame);
  }

  /** Where much is under way, what comes in the rest of this turn of the loop goes along. */
  #flushSoon(): void {
    if (this.#pending.size > fewPending) setImmediate(this.#flush);
    else process.nextTick(this.#flush);
  }

  get #isFull(): boolean {
    return this.isOpen && this.#writer.bytes + this.#socket.writableLength > sendBytesMax;
  }

  /** All that was sent until now is out, or the connection has ended. */
  #drained(): Promise<void> {
    this.#draining ??= new Promise((resolve) => {
      const done = () => {
        this.#draining = undefined;
        this.#socket.off('drain', done);
        this.#socket.off('close', done);
        resolve();
      };
      this.#socket.on('drain', done);
      this.#socket.on('close', done);
    });
    return this.#draining;
  }

  async #beat(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#ended;
    while (this.isOpen) {
      await clock.sleep(beatMs, { signal }).catch(() => {});
      const now = clock.monotonicMs();
      for (const [number, { deadlineMs }] of this.#pending) {
        if (now < deadlineMs) continue;
        const late = new StorageError('unknown_outcome', `no answer from ${this.peer}`);
        this.#settle(number)?.reject(late);
      }
      // While nothing is read by one's own will, silence says nothing.
      if (this.#socket.isPaused()) this.#heardMs = now;
      else if (now - this.#heardMs > silentMsMax)
        this.end(new Error(`host ${this.peer} has been silent for ${silentMsMax} ms`));
      else if (now - this.#heardMs >= beatMs)
        this.#send({ type: 'ping', kind: 0, number: 0, head: nothing, payload: nothing });
    }
  }
}
