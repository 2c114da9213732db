/**
 * Small files as people use them: written under another name, synced and renamed into their place, read,
 * removed, at any host. Each name is a register of versions. Who looks at another host may see what was
 * true a little earlier there, never half a version, never one that nobody made.
 */

import { isStorageError } from '../../src/core/errors.ts';
import type { FileName, Ino } from '../../src/core/units.ts';
import { fileName } from '../../src/core/units.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { Violation } from './history.ts';
import type { Step } from './plan.ts';
import type { Scheduler } from './scheduler.ts';
import type { Daemon, SimHost } from './sim-host.ts';
import type { SimWorld } from './world.ts';

/** How long another host may go by what it knew: see "Names in memory" in docs/architecture.md. */
const staleMs = 10_000;
/** Of a file that changes all the time. */
const attemptsMax = 20;
const caller = { uid: 0, gid: 0 };

interface Version {
  /** 0: there is no such file. */
  readonly value: number;
  readonly beganMs: number;
  overMs: number;
  /** Who made what came after it: there it is over at once. */
  overBy?: Daemon;
}

export class SimFiles {
  readonly #world: SimWorld;
  readonly #versions = new Map<number, Version[]>();
  /** Files that are being changed, and by which change. */
  readonly #busy = new Map<number, symbol>();

  constructor(world: SimWorld) {
    this.#world = world;
  }

  take({ do: what, file }: Extract<Step, { readonly file: number }>, host: SimHost): void {
    const { daemon } = host;
    if (!daemon) return;
    if (what === 'readFile') return this.#run(host, daemon, what, () => this.#read(daemon, file));
    if (this.#busy.has(file)) return;
    const change = Symbol(what);
    this.#busy.set(file, change);
    const over = () => {
      if (this.#busy.get(file) === change) this.#busy.delete(file);
    };
    void daemon.process.died.then(over);
    this.#run(host, daemon, what, async () => {
      await (what === 'putFile' ? this.#put(daemon, file) : this.#remove(daemon, file));
      over();
    });
  }

  /** All files, at all hosts, and that each host sees what it does itself. */
  async check(): Promise<void> {
    for (const { daemon } of this.#world.hosts.values()) {
      if (!daemon) continue;
      for (const file of this.#versions.keys()) await this.#read(daemon, file);
      await this.#checkOwnNames(daemon);
    }
  }

  async #checkOwnNames({ stack: { fileSystem } }: Daemon): Promise<void> {
    const name = fileName(this.#world.nextName('own'));
    const isThere = () => fileSystem.lookup(rootIno, name).then(() => true, isMissing);
    const isThereAfter = [await isThere()];
    await fileSystem.make(rootIno, name, { type: 'file', mode: 0o600 }, caller);
    isThereAfter.push(await isThere());
    await fileSystem.unlink(rootIno, name);
    isThereAfter.push(await isThere());
    if (isThereAfter.join() !== 'false,true,false')
      throw new Violation(`a host does not see the names that it makes: ${isThereAfter.join()}`);
  }

  #run(host: SimHost, daemon: Daemon, what: string, act: () => Promise<void>): void {
    act().catch((error: unknown) => {
      if (host.daemon === daemon) this.#world.fail(error, `file: ${what} at ${host.id}`);
    });
  }

  async #put(daemon: Daemon, file: number): Promise<void> {
    const { fileSystem } = daemon.stack;
    const version = this.#begin(file, this.#world.nextValue());
    const name = fileName(this.#world.nextName('new'));
    const { ino } = await fileSystem.make(rootIno, name, { type: 'file', mode: 0o600 }, caller);
    await fileSystem.open(ino);
    await fileSystem.write(ino, 0, contentOf(version.value));
    const isFlushed = await flushed(fileSystem.flush(ino));
    await fileSystem.release(ino);
    // What was written may be lost: nobody gives it a name then.
    if (!isFlushed) return;
    const to = { parent: rootIno, name: nameOf(file) };
    await fileSystem.rename({ parent: rootIno, name }, to, 'replace');
    this.#end(file, version, daemon);
    this.#world.counts.filesPut += 1;
    // Whoever has made it sees it.
    await this.#read(daemon, file);
  }

  async #remove(daemon: Daemon, file: number): Promise<void> {
    const { fileSystem } = daemon.stack;
    const version = this.#begin(file, 0);
    await fileSystem.unlink(rootIno, nameOf(file)).catch((error: unknown) => {
      if (!isStorageError(error, 'not_found')) throw error;
    });
    this.#end(file, version, daemon);
  }

  async #read(daemon: Daemon, file: number): Promise<void> {
    const beganMs = this.#world.scheduler.nowMs;
    const value = await valueAt(daemon, file, this.#world.scheduler);
    const versions = this.#versions.get(file) ?? [];
    const isPossible = versions.some(
      ({ value: possible, overMs, overBy }) =>
        possible === value && overMs + (overBy === daemon ? 0 : staleMs) >= beganMs,
    );
    if (!isPossible && !(value === 0 && (versions[0]?.overMs ?? beganMs) + staleMs >= beganMs))
      throw new Violation(`file ${file}: ${value} is not possible at ${beganMs}`);
    this.#world.counts.filesRead += 1;
  }

  #begin(file: number, value: number): Version {
    const { nowMs } = this.#world.scheduler;
    const versions = this.#versions.get(file) ?? [
      { value: 0, beganMs: 0, overMs: Number.POSITIVE_INFINITY },
    ];
    this.#versions.set(file, versions);
    const version = { value, beganMs: nowMs, overMs: Number.POSITIVE_INFINITY };
    versions.push(version);
    return version;
  }

  /** Only one change at a time is made, but what a host left unfinished may still come. */
  #end(file: number, version: Version, by: Daemon): void {
    const { nowMs } = this.#world.scheduler;
    for (const other of this.#versions.get(file) ?? [])
      if (other !== version && other.overMs === Number.POSITIVE_INFINITY)
        [other.overMs, other.overBy] = [nowMs, by];
  }
}

/** False where it says that something is lost. */
export function flushed(flush: Promise<void>): Promise<boolean> {
  return flush.then(
    () => true,
    (error: unknown) => {
      if (isStorageError(error, 'failed')) return false;
      throw error;
    },
  );
}

function isMissing(error: unknown): false {
  if (isStorageError(error, 'not_found')) return false;
  throw error;
}

const nameOf = (file: number): FileName => fileName(`file${file}`);

/** Larger ones have several pieces. */
function contentOf(value: number): Uint8Array {
  return new Uint8Array(Buffer.from(`${value} `.repeat(1 + (value % 7) * 100)));
}

/** Whoever opens what has just been replaced at another host looks where the name leads by now. */
async function valueAt(daemon: Daemon, file: number, clock: Pick<Scheduler, 'sleep'>) {
  for (let attempt = 1; ; attempt += 1)
    try {
      const ino = await inoOf(daemon, file);
      return ino === undefined ? 0 : await valueOf(daemon, file, ino);
    } catch (error) {
      if (!isStorageError(error, 'not_found') || attempt === attemptsMax) throw error;
      await clock.sleep(1);
    }
}

async function inoOf({ stack: { fileSystem } }: Daemon, file: number): Promise<Ino | undefined> {
  try {
    return (await fileSystem.lookup(rootIno, nameOf(file))).ino;
  } catch (error) {
    if (isStorageError(error, 'not_found')) return undefined;
    throw error;
  }
}

async function valueOf({ stack: { fileSystem } }: Daemon, file: number, ino: Ino) {
  const { sizeBytes } = await fileSystem.open(ino, 'read');
  try {
    const into = new Uint8Array(sizeBytes);
    const length = await fileSystem.read(ino, 0, into);
    const value = Number.parseInt(Buffer.from(into).toString(), 10);
    if (length !== sizeBytes || Buffer.compare(into, contentOf(value)) !== 0)
      throw new Violation(`file ${file}: is no version, but ${length} of ${sizeBytes} bytes`);
    return value;
  } finally {
    await fileSystem.release(ino);
  }
}
