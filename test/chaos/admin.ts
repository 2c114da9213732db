/** An administrator at one host, who lives as long as the run does: see admin-process.ts. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const program = join(import.meta.dirname, 'admin-process.ts');

export interface AdminOrder {
  readonly number: number;
  /** URL of the daemon's API. */
  readonly admin: string;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
}

export interface AdminAnswer {
  readonly number: number;
  readonly found?: object;
  readonly failure?: string;
}

export class Admin implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #waiting = new Map<number, (answer: AdminAnswer) => void>();
  #lastNumber = 0;

  /** `enter`: what a command line begins with, to run on its host. */
  constructor(enter: readonly string[]) {
    const [command, ...argv] = [...enter, process.execPath, program];
    this.#child = spawn(command, argv, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#closed = once(this.#child, 'close');
    this.#child.on('message', (message: AdminAnswer | 'ready') => {
      if (message === 'ready') return;
      this.#waiting.get(message.number)?.(message);
      this.#waiting.delete(message.number);
    });
    void this.#closed.then(() => {
      for (const [number, resolve] of this.#waiting) resolve({ number, failure: 'the run ends' });
    });
  }

  async call<T>(order: Omit<AdminOrder, 'number'>): Promise<T> {
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    const answer = await new Promise<AdminAnswer>((resolve) => {
      this.#waiting.set(number, resolve);
      this.#child.send({ ...order, number }, (error) => {
        if (error) resolve({ number, failure: error.message });
      });
    });
    if (answer.failure !== undefined) throw new Error(`${order.path}: ${answer.failure}`);
    return answer.found as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }
}
