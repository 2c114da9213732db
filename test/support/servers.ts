/** Real servers for tests: started on loopback in a folder of their own, stopped by pid. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

export const run = promisify(execFile);

/** Ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export class Servers implements AsyncDisposable {
  readonly #children: ChildProcess[] = [];
  #output = '';

  start(command: string, ...argv: string[]): ChildProcess {
    const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text: Buffer) => {
        this.#output = (this.#output + text.toString()).slice(-4000);
      });
    this.#children.push(child);
    return child;
  }

  /** Tries until it works, for a minute and a half at most: the first start is slow. */
  async until(what: string, attempt: () => Promise<unknown>): Promise<void> {
    const deadline = performance.now() + 90_000;
    for (;;) {
      try {
        await attempt();
        return;
      } catch (error) {
        if (performance.now() > deadline)
          throw new Error(`${what}: ${String(error)}\n${this.#output}`);
        await sleep(250);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('close', resolve));
    }
  }
}

/** An S3 server that answers. */
export interface S3Server extends AsyncDisposable {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}
