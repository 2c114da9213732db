/** The S3 server of a run: killed, stopped and started again, with its data. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const program = join(import.meta.dirname, 'store-process.ts');

export interface StorePlace {
  readonly address: string;
  readonly port: number;
  readonly folder: string;
  /** What a command line begins with, to run there. */
  readonly enter: readonly string[];
}

export class Store implements AsyncDisposable {
  readonly #place: StorePlace;
  #child: ChildProcess | undefined;

  constructor(place: StorePlace) {
    this.#place = place;
  }

  get endpoint(): string {
    return `http://${this.#place.address}:${this.#place.port}`;
  }

  async start(): Promise<void> {
    const { address, port, folder, enter } = this.#place;
    const [command, ...argv] = [...enter, process.execPath, program, address, `${port}`, folder];
    const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child = child;
    const ended = once(child, 'close').then(() => {
      throw new Error('the S3 server has ended');
    });
    ended.catch(() => {});
    await Promise.race([once(child.stdout, 'data'), ended]);
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
