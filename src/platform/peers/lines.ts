import type { Socket } from 'node:net';
import { StorageError } from '../../core/errors.ts';
import { lineBytesMax } from './handshake.ts';
import { throwIfTls } from './tls.ts';

const newline = 0x0a;

/** Lines of a handshake, and what comes behind them. */
export class Lines {
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
    if (socket.destroyed) this.#onEnd();
    socket.on('data', this.#onData);
    socket.on('error', this.#onEnd);
    socket.on('close', this.#onEnd);
  }

  async next(): Promise<string> {
    for (;;) {
      throwIfTls(this.#bytes);
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
