/**
 * A playground of its own for an end-to-end test: `wharf up` in a temporary folder, as a user
 * starts it. Everything is stopped, unmounted and removed when it is disposed of.
 */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { loadNative } from '../../src/platform/native.ts';

const root = join(import.meta.dirname, '../..');
const execFileLater = promisify(execFile);

/** Why this machine can't mount, or false: for the `skip` of a test. */
export const cannotMount: string | false = !existsSync('/dev/fuse')
  ? 'no /dev/fuse'
  : process.getuid?.() !== 0
    ? 'not root'
    : false;

export interface Ready {
  readonly mount: string;
  readonly admin: string;
  readonly pid: number;
}

/** Runs a program; gives what it printed. Rejects with all of it where it fails. */
export async function sh(command: string, ...argv: string[]): Promise<string> {
  const { stdout, stderr } = await execFileLater(command, argv, { maxBuffer: 64 * 1024 * 1024 });
  return stdout + stderr;
}

export class Playground implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'wharf-e2e-'));
  #child: ChildProcess | undefined;
  #ended: Promise<number> = Promise.resolve(0);
  log = '';
  /** All that are up; `start` gives the first. */
  hosts: readonly Ready[] = [];

  get mount(): string {
    return join(this.folder, 'a/demo');
  }

  get store(): string {
    return join(this.folder, 'store');
  }

  async start(...flags: string[]): Promise<Ready> {
    const main = join(root, 'src/cli/main.ts');
    // Of a flag that is given twice the last one counts.
    const argv = [main, 'up', '--dir', this.folder, '--json', '--hosts', '1', ...flags];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    let output = '';
    child.stderr.on('data', (text: Buffer) => {
      this.log += text.toString();
    });
    this.#ended = new Promise((resolve) => child.on('close', (code) => resolve(code ?? -1)));
    const ready = new Promise<Ready>((resolve) =>
      child.stdout.on('data', (text: Buffer) => {
        output += text.toString();
        if (!output.includes('\n')) return;
        const parsed = JSON.parse(output) as { hosts: Ready[] };
        this.hosts = parsed.hosts;
        resolve(parsed.hosts[0] as Ready);
      }),
    );
    const failed = this.#ended.then((code) => {
      throw new Error(`wharf up ended with ${code}: ${this.log}`);
    });
    failed.catch(() => {});
    return Promise.race([ready, failed]);
  }

  /** Asks it to stop; gives the exit code. */
  async stop(signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM'): Promise<number> {
    this.#child?.kill(signal);
    return this.#ended;
  }

  /** Resolves with the exit code when it ends by itself. */
  get ended(): Promise<number> {
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    const detachFlag = 2;
    for (const mount of [this.mount, ...this.hosts.map((host) => host.mount)])
      loadNative().native?.unmountNow(mount, detachFlag);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
