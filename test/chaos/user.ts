/** Uses files of one mount from a process of its own: see user-process.ts. */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const program = join(import.meta.dirname, 'user-process.ts');
/** Each may be held by a call that hangs. */
const threads = '48';

interface Numbered {
  readonly number: number;
  readonly path: string;
}

export type Call =
  | { readonly what: 'read'; readonly offset: number; readonly length: number }
  | { readonly what: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly what: 'flush' }
  /** By a new file of that name. */
  | {
      readonly what: 'replace';
      readonly by: string;
      readonly bytes: Uint8Array;
      readonly how: 'flushed' | 'unflushed';
    }
  /** All of a file. */
  | { readonly what: 'get' };

export type Order = Numbered & Call;

export interface Answer {
  readonly number: number;
  readonly bytes?: Uint8Array | undefined;
  /** A name of errno, or what else went wrong. */
  readonly failure?: string;
}

/** The call failed, or nobody knows: its process ended. */
export class CallFailed extends Error {
  readonly code: string;

  constructor(what: string, code: string) {
    super(`${what}: ${code}`);
    this.code = code;
  }
}

export class User implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #lastNumber = 0;

  private constructor() {
    this.#child = fork(program, [], {
      serialization: 'advanced',
      env: { ...process.env, UV_THREADPOOL_SIZE: threads },
    });
    this.#closed = once(this.#child, 'close');
    this.#child.on('message', (message: Answer | 'ready') => {
      if (message !== 'ready') this.#finish(message);
    });
    // Its end is told by `close`.
    this.#child.on('error', () => {});
    void this.#closed.then(() => {
      for (const number of this.#waiting.keys())
        this.#finish({ number, failure: 'its process has ended' });
    });
  }

  static async start(): Promise<User> {
    const user = new User();
    await Promise.race([once(user.#child, 'message'), user.#closed]);
    return user;
  }

  async call(path: string, call: Call): Promise<Buffer> {
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(number, resolve);
      const order: Order = { number, path, ...call };
      this.#child.send(order, (error) => {
        if (error) this.#finish({ number, failure: error.message });
      });
    });
    if (answer.failure !== undefined) throw new CallFailed(`${call.what} ${path}`, answer.failure);
    return Buffer.from(answer.bytes ?? []);
  }

  #finish(answer: Answer): void {
    this.#waiting.get(answer.number)?.(answer);
    this.#waiting.delete(answer.number);
  }

  /** Ends when its calls have returned, or their mount is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }
}
