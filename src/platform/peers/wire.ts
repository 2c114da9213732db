/**
 * What the bytes of a connection go over once its handshake is done: the addon's stream where there
 * is one, a socket of Node's otherwise, and for TLS always.
 */

import type { Socket } from 'node:net';

export interface WireEvents {
  /**
   * Bytes have come. They stay as they are until this returns or, where it gives `held`, until
   * `reuse` is called with their memory.
   */
  readonly onChunk: (chunk: Uint8Array) => 'held' | 'free';
  /** Nothing waits to go out any more, after something did when `send` returned. */
  readonly onDrain: () => void;
  /** Nothing more passes. Not after `destroy`. */
  readonly onEnd: (error: Error) => void;
}

export interface Wire {
  /** Of what was sent: it has not gone out, and its memory is in use. */
  readonly waitingBytes: number;
  readonly isPaused: boolean;
  send(parts: readonly Uint8Array[]): void;
  pause(): void;
  resume(): void;
  reuse(memory: ArrayBufferLike): void;
  destroy(): void;
}

export const closedByPeer = () => new Error('the connection was closed');

export class SocketWire implements Wire {
  readonly #socket: Socket;
  readonly #events: WireEvents;
  #isOver = false;

  constructor(socket: Socket, events: WireEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => void events.onChunk(chunk));
    socket.on('drain', events.onDrain);
    socket.on('error', (error) => this.#end(error));
    socket.on('close', () => this.#end(closedByPeer()));
  }

  get waitingBytes(): number {
    return this.#socket.writableLength;
  }

  get isPaused(): boolean {
    return this.#socket.isPaused();
  }

  send(parts: readonly Uint8Array[]): void {
    if (parts.length > 1) this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    if (parts.length > 1) this.#socket.uncork();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Node makes new memory for each chunk. */
  reuse(): void {}

  destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #end(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.onEnd(error);
  }
}
