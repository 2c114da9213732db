/**
 * Writes 4 KiB at random places of a disk, past the page cache, a few at once and without a stop,
 * from a process of its own (this file as well), and tells when each write returned.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs } from '../support/mount-user.ts';

const writersAtOnce = 4;
/** Between two writes of each: a pause is to be seen, and the machine not to be filled. */
const pauseMs = 1;
const tellMs = 20;
const blockBytes = 4096;
const directFlag = 0o40000;

export class Writer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #doneMs: number[] = [];
  #failure: string | undefined;

  private constructor(path: string, bytes: number) {
    this.#child = fork(import.meta.filename, [path, String(bytes)]);
    this.#closed = once(this.#child, 'close');
    this.#child.on('message', (message: number[] | string) => {
      if (typeof message === 'string') this.#failure = message;
      else this.#doneMs.push(...message);
    });
  }

  /** Resolves when it writes. */
  static async start(path: string, bytes: number): Promise<Writer> {
    const writer = new Writer(path, bytes);
    await writer.doneAfter(nowMs());
    return writer;
  }

  /** When the first write behind `ms` returned; waited for. */
  async doneAfter(ms: number): Promise<number> {
    for (;;) {
      const doneMs = this.#doneMs[this.#doneMs.findLastIndex((before) => before <= ms) + 1];
      if (doneMs !== undefined) return doneMs;
      if (this.#failure !== undefined) throw new Error(`a write failed: ${this.#failure}`);
      if (this.#child.exitCode !== null) throw new Error('the writer has ended');
      await sleep(tellMs);
    }
  }

  /** The longest time without a write that returned, of those that reach between `from` and `to`. */
  async longestPauseMs(fromMs: number, toMs: number): Promise<number> {
    await this.doneAfter(toMs);
    let longest = 0;
    for (const [index, doneMs] of this.#doneMs.entries()) {
      const before = this.#doneMs[index - 1];
      if (before === undefined || doneMs < fromMs || before > toMs) continue;
      longest = Math.max(longest, doneMs - before);
    }
    return longest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }
}

async function write(path: string, bytes: number): Promise<void> {
  const file = await fs.open(path, fs.constants.O_RDWR | directFlag);
  const block = Buffer.alloc(blockBytes, 1);
  const blocks = bytes / blockBytes;
  let done: number[] = [];
  const loop = async () => {
    for (;;) {
      const at = Math.floor(Math.random() * blocks) * blockBytes;
      await file.write(block, 0, blockBytes, at);
      done.push(nowMs());
      await sleep(pauseMs);
    }
  };
  setInterval(() => {
    process.send?.(done);
    done = [];
  }, tellMs);
  process.on('disconnect', () => process.exit());
  await Promise.all(Array.from({ length: writersAtOnce }, loop));
}

if (process.argv[1] === import.meta.filename)
  write(process.argv[2] ?? '', Number(process.argv[3])).catch((error: Error) => {
    process.send?.(error.message);
  });
