/**
 * One connection after its handshake: requests in both directions, numbered, answered in any order.
 *
 * Bounds: who sends waits while more than `sendBytesMax` have not gone out; while requests that are
 * being handled hold more than `handledBytesMax`, nothing is read. Signs of life: a ping after a
 * second of silence; who has heard nothing for `silentMsMax` gives the connection up.
 */

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
import type { Wire, WireEvents } from './wire.ts';

const sendBytesMax = 8 * MiB;
const handledBytesMax = 64 * MiB;
/** Of so many requests each goes at once. */
const fewPending = 8;
const beatMs = 1000;
const silentMsMax = 5000;
const nothing = new Uint8Array(0);

type CallOptions = Parameters<Peers['call']>[2];

interface Pending {
  readonly into: Uint8Array | undefined;
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
  readonly #wire: Wire;
  readonly #deps: ConnectionDeps;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #pending = new Map<number, Pending>();
  readonly #ended = new AbortController();
  #nextNumber = 1;
  /** What the newest bytes came in. */
  #chunk: ArrayBufferLike | undefined;
  /** Memory with requests that are being handled, and how many lie in it. */
  readonly #held = new Map<ArrayBufferLike, number>();
  #handledBytes = 0;
  /** Wakes those who wait until all is out. */
  #onDrained: (() => void) | undefined;
  #draining: Promise<void> | undefined;
  #heardMs: number;
  /** What was sent in one turn of the loop goes out by one system call. */
  readonly #flush = () => {
    if (!this.isOpen) return;
    this.#wire.send(this.#writer.take());
    if (this.#wire.waitingBytes > 0) return;
    this.#writer.reuse();
    this.#onDrained?.();
  };

  /** `begin` makes the wire; `early`: what came behind the handshake. */
  constructor(
    peer: HostId,
    deps: ConnectionDeps,
    begin: (events: WireEvents) => { readonly wire: Wire; readonly early: Uint8Array },
  ) {
    this.peer = peer;
    this.#deps = deps;
    this.#heardMs = deps.clock.monotonicMs();
    this.#reader = new FrameReader(deps.checksum, (frame) => this.#receive(frame));
    this.#writer = new FrameWriter(deps.checksum);
    const { wire, early } = begin({
      onChunk: (chunk) => this.#take(chunk),
      onDrain: () => this.#onDrained?.(),
      onEnd: (error) => this.end(error),
    });
    this.#wire = wire;
    this.#take(early);
    void this.#beat();
  }

  get isOpen(): boolean {
    return !this.#ended.signal.aborted;
  }

  /** As Peers.call, on this connection. */
  call(message: PeerMessage, options: CallOptions): Promise<PeerMessage> {
    if (this.#isFull) return this.#drained().then(() => this.call(message, options));
    const { deadlineMs, signal, into } = options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (!this.isOpen) throw new StorageError('unavailable', `host ${this.peer} is not connected`);
      const number = this.#nextNumber;
      this.#nextNumber = number === 0xffff_ffff ? 1 : number + 1;
      const until = this.#deps.clock.monotonicMs() + deadlineMs;
      const pending: Pending = {
        ...{ into, resolve, reject, deadlineMs: until, stopListening: undefined },
      };
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
    this.#wire.destroy();
    this.#onDrained?.();
    for (const number of [...this.#pending.keys()]) {
      const lost = new StorageError('unknown_outcome', `host ${this.peer} was lost`, {
        cause: error,
      });
      this.#settle(number)?.reject(lost);
    }
    this.#deps.onEnd(error);
  }

  #take(chunk: Uint8Array): 'held' | 'free' {
    if (!this.isOpen) return 'free';
    this.#heardMs = this.#deps.clock.monotonicMs();
    this.#chunk = chunk.buffer;
    try {
      this.#reader.take(chunk);
    } catch (error) {
      this.end(error as Error);
    }
    return this.#held.has(chunk.buffer) ? 'held' : 'free';
  }

  #receive(frame: Frame): void {
    const { type, kind, number, head, payload } = frame;
    if (type === 'request') return this.#handle(frame);
    if (type === 'ping') return this.#send({ ...frame, type: 'pong' });
    if (type === 'pong') return;
    const pending = this.#settle(number);
    if (type === 'answer')
      return pending?.resolve({
        ...{ kind, head: this.#kept(head) },
        payload: pending.into ? put(payload, pending.into) : this.#kept(payload),
      });
    const { code, message } = decodeErrorHead(head);
    pending?.reject(new StorageError(toErrorCode(code) ?? 'failed', message));
  }

  /** What outlives the chunk that it came in. */
  #kept(bytes: Uint8Array): Uint8Array {
    return bytes.buffer === this.#chunk ? new Uint8Array(bytes) : bytes;
  }

  /** What waits for the answer, and does not any more. */
  #settle(number: number): Pending | undefined {
    const pending = this.#pending.get(number);
    this.#pending.delete(number);
    pending?.stopListening?.();
    return pending;
  }

  #handle(request: Frame): void {
    const { kind, head, payload } = request;
    try {
      const answer = this.#deps.handler(this.peer, { kind, head, payload });
      if (isPending(answer) || this.#isFull) void this.#answerLater(request, answer);
      else this.#answer(request, answer);
    } catch (error) {
      this.#refuse(request, error);
    }
  }

  async #answerLater(request: Frame, answer: Eventually<PeerMessage>): Promise<void> {
    const memory = request.payload.buffer;
    this.#hold(memory);
    try {
      const found = await answer;
      while (this.#isFull) await this.#drained();
      this.#answer(request, found);
    } catch (error) {
      this.#refuse(request, error);
    } finally {
      this.#release(memory);
    }
  }

  /** A request that is being handled keeps all that it lies in. */
  #hold(memory: ArrayBufferLike): void {
    const requests = this.#held.get(memory) ?? 0;
    this.#held.set(memory, requests + 1);
    if (requests > 0) return;
    this.#handledBytes += memory.byteLength;
    if (this.#handledBytes > handledBytesMax) this.#wire.pause();
  }

  #release(memory: ArrayBufferLike): void {
    const requests = this.#held.get(memory) ?? 0;
    if (requests > 1) return void this.#held.set(memory, requests - 1);
    this.#held.delete(memory);
    this.#handledBytes -= memory.byteLength;
    this.#wire.reuse(memory);
    if (this.#handledBytes <= handledBytesMax && this.#wire.isPaused) this.#wire.resume();
  }

  #answer(request: Frame, { kind, head, payload: found }: PeerMessage): void {
    // The request's memory serves again before the answer may have gone out.
    const payload = found.buffer === request.payload.buffer ? new Uint8Array(found) : found;
    this.#send({ type: 'answer', kind, number: request.number, head, payload });
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
    return this.isOpen && this.#writer.bytes + this.#wire.waitingBytes > sendBytesMax;
  }

  /** All that was sent until now is out, or the connection has ended. */
  #drained(): Promise<void> {
    this.#draining ??= new Promise((resolve) => {
      this.#onDrained = () => {
        this.#draining = undefined;
        this.#onDrained = undefined;
        resolve();
      };
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
      if (this.#wire.isPaused) this.#heardMs = now;
      else if (now - this.#heardMs > silentMsMax)
        this.end(new Error(`host ${this.peer} has been silent for ${silentMsMax} ms`));
      else if (now - this.#heardMs >= beatMs)
        this.#send({ type: 'ping', kind: 0, number: 0, head: nothing, payload: nothing });
    }
  }
}

function put(payload: Uint8Array, into: Uint8Array): Uint8Array {
  const bytes = Math.min(payload.length, into.length);
  into.set(payload.length === bytes ? payload : payload.subarray(0, bytes));
  return into.subarray(0, bytes);
}
