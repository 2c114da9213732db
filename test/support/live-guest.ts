/**
 * A QEMU process that a test talks to by QMP: it runs the guest, or waits for one to come from
 * another process. Killed when it is disposed of.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const patienceMs = 60_000;

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
}

export interface LiveGuestOptions {
  readonly argv: readonly string[];
  /** Of the socket for QMP. */
  readonly control: string;
}

export class LiveGuest implements AsyncDisposable {
  readonly #qemu: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #control: string;
  #socket: Socket | undefined;
  #answers: ((answer: Answer) => void)[] = [];
  /** What the guest has said, and QEMU itself. */
  console = '';

  constructor({ argv, control }: LiveGuestOptions) {
    this.#control = control;
    const all = [...argv, '-qmp', `unix:${control},server=on,wait=off`];
    const qemu = spawn('qemu-system-x86_64', all, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#qemu = qemu;
    for (const stream of [qemu.stdout, qemu.stderr])
      stream.on('data', (bytes: Buffer) => {
        this.console += bytes.toString();
      });
    this.#ended = new Promise((resolve) => qemu.on('close', resolve));
  }

  /** Asks again and again until it holds. */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + patienceMs;
    while (!(await holds())) {
      const isOver = this.#qemu.exitCode !== null || performance.now() > deadline;
      if (isOver) throw new Error(`never happened: ${what}\n${this.console.slice(-2000)}`);
      await sleep(50);
    }
  }

  /** A command of QMP. */
  async execute<T>(command: string, argument: object = {}): Promise<T> {
    const socket = (this.#socket ??= await this.#connect());
    const answered = new Promise<Answer>((resolve) => this.#answers.push(resolve));
    socket.write(`${JSON.stringify({ execute: command, arguments: argument })}\n`);
    const answer = await answered;
    if (answer.error) throw new Error(`${command}: ${answer.error.desc}`);
    return answer.return as T;
  }

  async #connect(): Promise<Socket> {
    let socket: Socket | undefined;
    await this.until('QMP', async () => {
      const attempt = createConnection(this.#control);
      const isConnected = await new Promise<boolean>((resolve) => {
        attempt.once('connect', () => resolve(true));
        attempt.once('error', () => resolve(false));
      });
      if (isConnected) socket = attempt;
      return isConnected;
    });
    let text = '';
    (socket as Socket).on('data', (bytes: Buffer) => {
      const lines = (text + bytes.toString()).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        const answer = JSON.parse(line) as Answer;
        if ('return' in answer || answer.error) this.#answers.shift()?.(answer);
      }
    });
    const ready = new Promise<Answer>((resolve) => this.#answers.push(resolve));
    (socket as Socket).write('{"execute":"qmp_capabilities"}\n');
    await ready;
    return socket as Socket;
  }

  async kill(): Promise<void> {
    this.#socket?.destroy();
    this.#qemu.kill('SIGKILL');
    await this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
