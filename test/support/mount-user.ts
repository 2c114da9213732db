/** Uses a file of a mount from a process of its own; see mount-user-process.ts. */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const program = join(import.meta.dirname, 'mount-user-process.ts');
/** Threads, each of which a request may hold. */
const threads = '32';

export interface Order {
  readonly number: number;
  readonly what: 'read' | 'write' | 'flush';
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** `atMs`: when the call returned, on the machine's monotonic clock. */
export interface Done {
  readonly number: number;
  readonly atMs: number;
  readonly bytes?: Uint8Array | undefined;
  /** A name of errno. */
  readonly failure?: string;
}

/** On the clock of `lastDoneMs`. */
export const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** The wall clock's time then. */
export const wallMsOf = (ms: number) => ms - nowMs() + Date.now();

export class MountUser implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #waiting = new Map<number, (done: Done) => void>();
  #lastNumber = 0;
  /** When a call last returned without an error. */
  lastDoneMs = 0;
  /** When one first did of those that were made since `watchFrom`. */
  firstDoneMs: number | undefined;
  #watchedFromMs = 0;

  private constructor(path: string) {
    this.#child = fork(program, [path], {
      serialization: 'advanced',
      env: { ...process.env, UV_THREADPOOL_SIZE: threads },
    });
    this.#closed = once(this.#child, 'close');
    this.#child.on('message', (message: Done | 'ready') => {
      if (message !== 'ready') this.#finish(message);
    });
    void this.#closed.then(() => {
      for (const number of this.#waiting.keys())
        this.#finish({ number, atMs: nowMs(), failure: 'the user has ended' });
    });
  }

  static async of(path: string): Promise<MountUser> {
    const user = new MountUser(path);
    const [first] = (await Promise.race([once(user.#child, 'message'), user.#closed])) as [unknown];
    if (first !== 'ready') throw new Error(`${path} can't be opened`);
    return user;
  }

  watchFrom(ms: number): void {
    this.#watchedFromMs = ms;
    this.firstDoneMs = undefined;
  }

  /** Calls that have not returned. */
  get underWay(): number {
    return this.#waiting.size;
  }

  async read(offset: number, bytes: number): Promise<Buffer> {
    const done = await this.#order('read', offset, Buffer.alloc(bytes));
    return Buffer.from(done.bytes ?? []);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#order('write', offset, bytes);
  }

  async flush(): Promise<void> {
    await this.#order('flush', 0, new Uint8Array(0));
  }

  async #order(what: Order['what'], offset: number, bytes: Uint8Array): Promise<Done> {
    const issuedMs = nowMs();
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    const done = await new Promise<Done>((resolve) => {
      this.#waiting.set(number, resolve);
      this.#child.send({ number, what, offset, bytes } satisfies Order);
    });
    if (done.failure !== undefined) throw new Error(`${what} at ${offset}: ${done.failure}`);
    this.lastDoneMs = done.atMs;
    if (issuedMs >= this.#watchedFromMs) this.firstDoneMs ??= done.atMs;
    return done;
  }

  #finish(done: Done): void {
    this.#waiting.get(done.number)?.(done);
    this.#waiting.delete(done.number);
  }

  /** Ends when its calls have returned, or their mount is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }
}
