/** Runs fuse-daemon.ts as a process that a test may kill; ended when it is disposed of. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const daemonPath = fileURLToPath(import.meta.resolve('./fuse-daemon.ts'));

export class FuseDaemon implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #output = '';
  #wake: () => void = () => {};

  constructor(how: string, point: string, options: { fd?: number; uid?: number } = {}) {
    const { fd, uid } = options;
    const user = uid === undefined ? [] : [String(uid)];
    this.#child = spawn(process.execPath, [daemonPath, how, point, ...user], {
      stdio: ['ignore', 'pipe', 'inherit', 'ignore', fd ?? 'ignore'],
    });
    this.#ended = new Promise((resolve) => this.#child.on('close', () => resolve()));
    this.#child.on('close', () => this.#wake());
    this.#child.stdout?.on('data', (text: Buffer) => {
      this.#output += text.toString();
      this.#wake();
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Resolves when it has printed the word. */
  async said(word: string): Promise<void> {
    while (!this.#output.includes(word)) {
      if (this.#child.exitCode !== null) throw new Error(`daemon ended: ${this.#output}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal);
    await this.#ended;
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
  }
}
