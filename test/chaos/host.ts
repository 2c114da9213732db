/**
 * One host: its daemon, supervised as systemd would, on an SSD that is a small tmpfs; users of its
 * mount, in processes of their own, as long as the daemon lives; an administrator.
 *
 *   down ──start──► up ──kill, stop, or its own end──► down
 *
 * A call that fails while the daemon lives is a broken promise; one that its daemon's end cut short
 * is `Interrupted`: nobody knows whether it happened.
 */

import { createWriteStream, globSync, mkdirSync, readFileSync, type WriteStream } from 'node:fs';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { loadNative } from '../../src/platform/native.ts';
import { Daemon } from '../support/daemon.ts';
import { nowMs } from '../support/mount-user.ts';
import { run } from '../support/servers.ts';
import { Admin } from './admin.ts';
import type { Chronicle } from './chronicle.ts';
import { Interrupted } from './chronicle.ts';
import type { HostName } from './plan.ts';
import type { Stalls } from './stalls.ts';
import type { Call } from './user.ts';
import { CallFailed, User } from './user.ts';

const ssdSize = '160m';
const usersPerHost = 2;
const restartPauseMs = 500;
/** A stop is bounded by 10 s for requests, and 10 s for the last flush of objects. */
const stopMsMax = 40_000;
const softwareExit = 70;
/** For a process that is killed. */
const dieMsMax = 5000;
/** MNT_FORCE: the kernel answers all requests of the mount with an error. */
const forceFlag = 1;

interface HostStatus {
  readonly waiting: readonly string[];
  readonly waitingForOwners: readonly { readonly id: string; readonly why: string }[];
  readonly backend: { readonly state: string; readonly error?: string };
  readonly alarms: readonly string[];
  readonly residentBytes: number;
}

export interface HostOptions {
  readonly name: HostName;
  readonly settings: Partial<SettingsInput>;
  readonly enter: readonly string[];
  readonly chronicle: Chronicle;
  readonly stalls: Stalls;
}

export class Host implements AsyncDisposable {
  readonly name: HostName;
  readonly daemon: Daemon;
  readonly #admin: Admin;
  readonly #chronicle: Chronicle;
  readonly #stalls: Stalls;
  readonly #log: WriteStream;
  #users: readonly User[] = [];
  #isUp = false;
  #isClosing = false;
  /** Grows when a daemon ends, or is about to. */
  #lives = 0;
  #nextUser = 0;
  #rising: Promise<void> = Promise.resolve();

  private constructor({ name, settings, enter, chronicle, stalls }: HostOptions) {
    this.name = name;
    this.#chronicle = chronicle;
    this.#stalls = stalls;
    this.daemon = new Daemon({ ...settings, host: name }, enter);
    this.#admin = new Admin(enter);
    this.#log = createWriteStream(join(chronicle.folder, `host-${name}.log`));
    this.daemon.onLog = (text) => this.#log.write(text);
  }

  /** Its SSD is there; its daemon is not. */
  static async make(options: HostOptions): Promise<Host> {
    const host = new Host(options);
    mkdirSync(host.daemon.data);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', `size=${ssdSize}`, 'wharf-chaos', host.daemon.data]);
      return host;
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Resolves when it serves, however often it has to be started. */
  start(): Promise<void> {
    this.#rising = this.#rise();
    return this.#rising;
  }

  async #rise(): Promise<void> {
    while (!this.#isClosing)
      try {
        await this.daemon.start();
        break;
      } catch {
        await this.#noteRefusal();
      }
    if (this.#isClosing) return;
    const life = this.#lives;
    const { ended } = this.daemon;
    void ended.then((code) => {
      if (life === this.#lives && !this.#isClosing) void this.#dieByItself(code);
    });
    this.#users = await Promise.all(Array.from({ length: usersPerHost }, () => User.start()));
    this.#isUp = life === this.#lives;
  }

  async #noteRefusal(): Promise<void> {
    const code = await this.daemon.ended;
    if (this.#isClosing) return;
    const last = this.daemon.log.trimEnd().split('\n').at(-1) ?? '';
    this.#chronicle.note(`host ${this.name} did not start (exit code ${code}): ${last}`);
    this.#chronicle.count('starts that were refused');
    if (code === softwareExit) this.#chronicle.find(`host ${this.name} died of a bug: ${last}`);
    await sleep(restartPauseMs);
  }

  async #dieByItself(code: number | null): Promise<void> {
    this.#chronicle.find(`daemon of host ${this.name} ended by itself with exit code ${code}`);
    this.#fall();
    await this.#leaveUsers();
    await this.start();
  }

  #fall(): void {
    this.#isUp = false;
    this.#lives += 1;
  }

  async kill(): Promise<void> {
    this.#fall();
    await this.end();
    await this.#leaveUsers();
  }

  /** Now. A thread that waits in the kernel for the daemon's own mount would keep it alive for ever. */
  async end(): Promise<void> {
    const ended = this.daemon.end('SIGKILL');
    const enough = new AbortController();
    const late = sleep(dieMsMax, 'late', { signal: enough.signal }).catch(() => 'ended');
    if ((await Promise.race([ended, late])) === 'late') {
      this.#noteUndead();
      loadNative().native?.unmountNow(this.daemon.mount, forceFlag);
    }
    enough.abort();
    await ended;
  }

  /**
   * A thread that tells the kernel of a name waits for the folder's lock, which a call has that waits
   * for the daemon. This is known; anything else is a finding.
   */
  #noteUndead(): void {
    const places = stuckThreads(this.daemon.pid);
    const isKnown = places.includes('fuse_reverse_inval_entry');
    const text = `daemon of host ${this.name} does not die: ${places.join() || 'nobody knows why'}`;
    if (!isKnown) return this.#chronicle.find(text);
    this.#chronicle.say(`known: ${text}`);
    this.#chronicle.count('known: daemons that died when their mount was forced away');
  }

  /** Orderly. */
  async stop(): Promise<void> {
    this.#fall();
    const late = sleep(stopMsMax, 'late' as const, { ref: false });
    const code = await Promise.race([this.daemon.end('SIGTERM'), late]);
    if (code === 'late') this.#chronicle.find(`host ${this.name} does not stop in ${stopMsMax} ms`);
    else if (code !== 0) this.#chronicle.find(`host ${this.name} stopped with exit code ${code}`);
    await this.end();
    await this.#leaveUsers();
  }

  /** Like a machine that swaps, or a VM that is moved. */
  freeze(): void {
    process.kill(this.daemon.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.daemon.pid, 'SIGCONT');
  }

  /** Nothing is left on its SSD, until the function that this gives is called. */
  async fillSsd(): Promise<() => Promise<void>> {
    const balloon = join(this.daemon.data, 'balloon');
    const { bavail, bsize } = await statfs(this.daemon.data);
    await writeFile(balloon, Buffer.alloc(bavail * bsize)).catch(() => {});
    return () => rm(balloon, { force: true });
  }

  /** A file of its mount. `Interrupted` where the daemon is not there, or ends meanwhile. */
  async call(path: string, call: Call): Promise<Buffer> {
    const life = this.#lives;
    const user = this.#users[this.#nextUser++ % usersPerHost];
    if (!this.#isUp || !user) throw new Interrupted(`host ${this.name} is down`);
    const what = `${call.what} of ${path} at ${this.name}`;
    const done = this.#stalls.watch(this, what);
    try {
      return await user.call(this.daemon.at(path), call);
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      if (life === this.#lives && this.#isUp && !this.#isClosing)
        this.#chronicle.find(`${what} fails with ${error.code}, while the daemon lives`);
      throw new Interrupted(`${what}: ${error.code}`);
    } finally {
      done();
    }
  }

  ask<T>(method: 'GET' | 'POST', path: string, query: Record<string, string> = {}): Promise<T> {
    return this.#admin.call<T>({ admin: this.daemon.admin, method, path: `/v1/${path}`, query });
  }

  status(): Promise<HostStatus> {
    return this.ask<HostStatus>('GET', 'status');
  }

  /** What the host says that I/O waits for. */
  async whatItWaitsFor(): Promise<readonly string[]> {
    const { waiting, waitingForOwners, backend } = await this.status();
    const store = backend.state === 'ok' ? [] : [`object store: ${backend.error}`];
    return [...waiting, ...waitingForOwners.map(({ why }) => why), ...store];
  }

  /** Resolves when it is up again; false where it is not in time. */
  async isBackWithin(ms: number): Promise<boolean> {
    const deadlineMs = nowMs() + ms;
    while (!this.#isUp && nowMs() < deadlineMs) await sleep(50);
    return this.#isUp;
  }

  /** It is not started any more, and what ends from now on ends with the run. */
  close(): void {
    this.#isClosing = true;
    this.#fall();
  }

  async #leaveUsers(): Promise<void> {
    const users = this.#users;
    this.#users = [];
    await Promise.all(users.map((user) => user[Symbol.asyncDispose]()));
  }

  /** Daemons before users, whose calls would hang. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.end();
    await this.#rising.catch(() => {});
    await this.end();
    await this.#leaveUsers();
    await this.#admin[Symbol.asyncDispose]();
    await run('umount', ['--lazy', this.daemon.data]).catch(() => {});
    await this.daemon[Symbol.asyncDispose]();
    await new Promise<void>((resolve) => this.#log.end(resolve));
  }
}

/** Where the threads of a process are in the kernel. */
function stuckThreads(pid: number): string[] {
  const places = globSync(`/proc/${pid}/task/*/wchan`).map((path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      // It has ended just now.
      return '0';
    }
  });
  return places.filter((place) => place !== '0');
}
