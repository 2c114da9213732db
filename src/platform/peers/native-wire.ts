/** A connection by the addon: no promise, no object and no memory of its own for each chunk. */

import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { TLSSocket } from 'node:tls';
import { KiB } from '../../core/units.ts';
import { errnoName } from '../errno.ts';
import type { Native, NativeStream } from '../native.ts';
import { streamEvent } from '../native.ts';
import type { Wire, WireEvents } from './wire.ts';
import { closedByPeer } from './wire.ts';

const { EAGAIN } = constants.errno;
/** What is received at once, at most: requests of many users, or a part of a large one. */
const chunkBytes = 256 * KiB;
const sparesMax = 16;

/** Memory to receive into, for all connections: each needs it while it receives. */
export class ReceiveMemory {
  readonly #spare: Uint8Array[] = [];
  readonly #known = new WeakMap<ArrayBufferLike, Uint8Array>();

  take(): Uint8Array {
    const spare = this.#spare.pop();
    if (spare) return spare;
    const made = new Uint8Array(chunkBytes);
    this.#known.set(made.buffer, made);
    return made;
  }

  /** What is not of here, or too much, goes with its last user. */
  giveBack(memory: ArrayBufferLike): void {
    const known = this.#known.get(memory);
    if (known && this.#spare.length < sparesMax) this.#spare.push(known);
  }
}

export interface NativeWireDeps {
  readonly native: Native;
  readonly memory: ReceiveMemory;
}

/** Node's name for the descriptor; not a part of its API, so it may not be there. */
function descriptorOf(socket: Socket): number {
  const { _handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } | null };
  return _handle?.fd ?? -1;
}

export class NativeWire implements Wire {
  readonly #native: Native;
  readonly #memory: ReceiveMemory;
  readonly #events: WireEvents;
  readonly #stream: NativeStream;
  /** What the kernel has not taken yet. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isPaused = false;
  #isOver = false;

  private constructor(
    { native, memory }: NativeWireDeps,
    stream: NativeStream,
    events: WireEvents,
  ) {
    this.#native = native;
    this.#memory = memory;
    this.#stream = stream;
    this.#events = events;
  }

  /**
   * Takes a connected socket over, and gives what Node had read of it already; undefined where the
   * addon can't, and the socket is as it was.
   */
  static takeOver(
    deps: NativeWireDeps,
    socket: Socket,
    events: WireEvents,
  ): { readonly wire: NativeWire; readonly read: Uint8Array } | undefined {
    const fd = descriptorOf(socket);
    if (socket instanceof TLSSocket || fd < 0 || socket.writableLength > 0) return undefined;
    socket.setNoDelay(true);
    let told: (event: number) => void = () => {};
    const stream = deps.native.streamOpen(fd, (event) => told(event));
    if (typeof stream === 'number') return undefined;
    const wire = new NativeWire(deps, stream, events);
    told = (event) => wire.#told(event);
    socket.pause();
    const read = (socket.read() as Buffer | null) ?? new Uint8Array(0);
    socket.destroy();
    wire.#watch();
    return { wire, read };
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  send(parts: readonly Uint8Array[]): void {
    for (const part of parts) this.#waitingBytes += part.length;
    if (this.#waiting.length > 0) return void this.#waiting.push(...parts);
    this.#waiting = [...parts];
    this.#push();
    if (this.#waitingBytes > 0) this.#watch();
  }

  pause(): void {
    this.#isPaused = true;
    this.#watch();
  }

  resume(): void {
    this.#isPaused = false;
    this.#watch();
  }

  reuse(memory: ArrayBufferLike): void {
    this.#memory.giveBack(memory);
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#native.streamClose(this.#stream);
  }

  #watch(): void {
    if (this.#isOver) return;
    const writable = this.#waitingBytes > 0 ? streamEvent.writable : 0;
    this.#native.streamWatch(this.#stream, (this.#isPaused ? 0 : streamEvent.readable) | writable);
  }

  #told(events: number): void {
    if ((events & streamEvent.failed) !== 0) return this.#end(new Error('the socket has failed'));
    if ((events & streamEvent.writable) !== 0 && this.#waitingBytes > 0) {
      this.#push();
      if (this.#waitingBytes === 0 && !this.#isOver) {
        this.#watch();
        this.#events.onDrain();
      }
    }
    if ((events & streamEvent.readable) !== 0 && !this.#isPaused && !this.#isOver) this.#receive();
  }

  /** One chunk for each time that the socket is ready: others have their turn between two. */
  #receive(): void {
    const memory = this.#memory.take();
    const count = this.#native.streamReceive(this.#stream, memory);
    const isHeld = count > 0 && this.#events.onChunk(memory.subarray(0, count)) === 'held';
    if (!isHeld) this.#memory.giveBack(memory.buffer);
    if (count === 0) this.#end(closedByPeer());
    else if (count < 0 && count !== -EAGAIN) this.#end(new Error(errnoName(-count)));
  }

  #push(): void {
    while (this.#waiting.length > 0) {
      const sent = this.#native.streamSend(this.#stream, this.#waiting);
      if (sent === -EAGAIN) return;
      if (sent < 0) return this.#end(new Error(errnoName(-sent)));
      this.#waitingBytes -= sent;
      let left = sent;
      while (left >= (this.#waiting[0]?.length ?? Number.POSITIVE_INFINITY))
        left -= this.#waiting.shift()?.length ?? 0;
      if (left > 0) this.#waiting[0] = (this.#waiting[0] as Uint8Array).subarray(left);
    }
  }

  #end(error: Error): void {
    if (this.#isOver) return;
    this.destroy();
    this.#waiting = [];
    this.#waitingBytes = 0;
    // Never within `send`: whoever sends does not expect it.
    process.nextTick(() => this.#events.onEnd(error));
  }
}
