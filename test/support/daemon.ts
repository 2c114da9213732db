/**
 * One daemon with settings of its own, as a process that a test may kill at any moment, on another
 * host of the test if need be (see networks.ts). Killed, stopped, unmounted and removed when it is
 * disposed of.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { daemonEnvironment, daemonFile, daemonFlags } from '../../src/cli/daemon-process.ts';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { loadNative } from '../../src/platform/native.ts';
import { run } from './servers.ts';

const cliFile = join(import.meta.dirname, '../../src/cli/main.ts');
const detachFlag = 2;
const logKept = 500_000;
/** Longer than anything here takes: a test that waits so long has failed. */
const patienceMs = 60_000;
const pauseMs = 50;

/** A test file is run once more over another transport so. */
function ofEnvironment(): Partial<SettingsInput> {
  const transport = process.env['WHARF_TEST_TRANSPORT'];
  return transport === 'ring' ? { fuse: { transport } } : {};
}

export class Daemon implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'wharf-daemon-'));
  readonly mount = join(this.folder, 'mnt');
  readonly data = join(this.folder, 'data');
  readonly store = join(this.folder, 'store');
  /** The end of what all its processes have logged. */
  log = '';
  /** Told what is logged, as it comes. */
  onLog: (text: string) => void = () => {};
  admin = '';
  readonly #settings: Partial<SettingsInput>;
  readonly #enter: readonly string[];
  #child: ChildProcess | undefined;
  #ended: Promise<number | null> = Promise.resolve(0);

  /** `enter`: what a command line begins with, to run on its host. */
  constructor(settings: Partial<SettingsInput> = {}, enter: readonly string[] = []) {
    this.#settings = settings;
    this.#enter = enter;
    mkdirSync(this.mount);
  }

  /** Starts a process; it need not be ready. */
  spawn(): void {
    const config = join(this.folder, 'wharf.yaml');
    const settings: SettingsInput = {
      ...{ host: this.host, vpool: 'demo', mount: this.mount, data: this.data },
      registry: { sqlite: join(this.folder, 'registry.sqlite') },
      backend: { kind: 'dir', path: this.store },
      ...this.#settings,
      ...ofEnvironment(),
    };
    writeFileSync(config, JSON.stringify(settings));
    const program = [process.execPath, ...daemonFlags, daemonFile, '--config', config];
    const [command = '', ...argv] = [...this.#enter, ...program];
    const child = spawn(command, argv, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...daemonEnvironment(), WHARF_LOG: 'debug' },
    });
    this.#child = child;
    this.#ended = new Promise((resolve) => child.on('close', resolve));
  }

  /** Starts a process and waits until it serves. */
  async start(): Promise<void> {
    this.spawn();
    await this.ready();
  }

  /** Starts a process that has to end by itself; gives the line that it says why. */
  async refusal(): Promise<string> {
    let text = '';
    this.spawn();
    this.#child?.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const code = await this.#ended;
    const lines = text.split('\n').filter((line) => line.startsWith('wharf: '));
    if (lines.length !== 1 || (code !== 1 && code !== 2))
      throw new Error(`daemon ended with ${code}: ${text}`);
    return lines[0] as string;
  }

  ready(): Promise<void> {
    const child = this.#child as ChildProcess;
    let text = '';
    return new Promise((resolve, reject) => {
      let isReady = false;
      child.stderr?.on('data', (chunk: Buffer) => {
        this.log = (this.log + chunk.toString()).slice(-logKept);
        this.onLog(chunk.toString());
        if (isReady) return;
        text += chunk.toString();
        const found = /"admin":"([^"]+)"[^\n]*"msg":"ready"/.exec(text);
        if (!found) return;
        isReady = true;
        this.admin = found[1] as string;
        resolve();
      });
      void this.#ended.then((code) => reject(new Error(`daemon ended with ${code}: ${text}`)));
    });
  }

  get host(): string {
    return this.#settings.host ?? 'a';
  }

  get pid(): number {
    return this.#child?.pid as number;
  }

  /** Resolves with the exit code when it ends, by itself or not. */
  get ended(): Promise<number | null> {
    return this.#ended;
  }

  /** Asks it to stop, or kills it; gives its exit code, null where a signal ended it. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    this.#child?.kill(signal);
    return this.#ended;
  }

  at(...parts: string[]): string {
    return join(this.mount, ...parts);
  }

  /** All of a vDisk is on the object store when it resolves. */
  async sync(path: string): Promise<void> {
    const query = new URLSearchParams({ path }).toString();
    const response = await fetch(`${this.admin}/v1/vdisk/sync?${query}`, { method: 'POST' });
    if (response.status !== 200) throw new Error(`sync of ${path}: ${await response.text()}`);
  }

  /** Asks again and again until it holds. */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + patienceMs;
    while (!(await holds())) {
      if (performance.now() > deadline) throw new Error(`never happened: ${what}; ${this.log}`);
      await sleep(pauseMs);
    }
  }

  /** The command `wharf`, on its host. */
  async wharf<T>(...words: readonly string[]): Promise<T> {
    const program = [process.execPath, cliFile, ...words, '--json', '--admin', this.admin];
    const [command = '', ...argv] = [...this.#enter, ...program];
    return JSON.parse((await run(command, argv)).stdout) as T;
  }

  async status<T>(): Promise<T> {
    return (await (await fetch(`${this.admin}/v1/status`)).json()) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
    const { native } = loadNative();
    while (native?.unmountNow(this.mount, detachFlag) === 0);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
