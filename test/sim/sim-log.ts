/**
 * A file to which people at all hosts append lines, as programs write their logs, each one synced before
 * the next is sent. A line that was acknowledged is there once, whole, and behind all those that were
 * acknowledged before it was sent; a line that was not may be there once. A sync that fails says so for
 * all who had not synced at that daemon yet.
 */

import { isStorageError } from '../../src/core/errors.ts';
import type { Ino } from '../../src/core/units.ts';
import { fileName } from '../../src/core/units.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { Violation } from './history.ts';
import { flushed } from './sim-files.ts';
import type { Daemon, SimHost } from './sim-host.ts';
import type { SimWorld } from './world.ts';

const name = fileName('log');
const caller = { uid: 0, gid: 0 };
const lineBytes = 16;
const never = Number.POSITIVE_INFINITY;

interface Line {
  readonly began: number;
  /** On the scheduler's ticks; infinite while nobody was told. */
  ended: number;
  /** Where it is being synced, until a sync there fails. */
  at: Daemon | undefined;
}

export class SimLog {
  readonly #world: SimWorld;
  /** By what they say. */
  readonly #lines = new Map<number, Line>();

  constructor(world: SimWorld) {
    this.#world = world;
  }

  take(what: 'append' | 'readLog', host: SimHost): void {
    if (what === 'append') this.#append(host);
    else this.#run(host, 'read', (daemon) => this.check(daemon));
  }

  #append(host: SimHost): void {
    this.#run(host, 'append', async (daemon) => {
      const { fileSystem } = daemon.stack;
      const value = this.#world.nextValue();
      const ino = await this.made(daemon);
      await fileSystem.open(ino);
      const line: Line = { began: this.#world.scheduler.tick(), ended: never, at: daemon };
      this.#lines.set(value, line);
      const text = Buffer.from(`${value}\n`.padStart(lineBytes));
      await fileSystem.write(ino, 0, new Uint8Array(text), { append: true });
      if (!(await flushed(fileSystem.flush(ino))))
        for (const other of this.#lines.values()) if (other.at === daemon) other.at = undefined;
      if (line.at) line.ended = this.#world.scheduler.tick();
      line.at = undefined;
      await fileSystem.release(ino);
      this.#world.counts.appends += 1;
    });
  }

  /** All of it, as a host shows it to somebody who opens it now. */
  async check({ stack: { fileSystem } }: Daemon): Promise<void> {
    const began = this.#world.scheduler.tick();
    const ino = await fileSystem.lookup(rootIno, name).then(
      (found) => found.ino,
      (error: unknown) => {
        if (!isStorageError(error, 'not_found')) throw error;
      },
    );
    let bytes = new Uint8Array(0);
    if (ino !== undefined) {
      const { sizeBytes } = await fileSystem.open(ino, 'read');
      bytes = new Uint8Array(sizeBytes);
      await fileSystem.read(ino, 0, bytes);
      await fileSystem.release(ino);
    }
    this.#judge(Buffer.from(bytes).toString('latin1'), began);
  }

  #judge(text: string, began: number): void {
    const seen = new Set<number>();
    let lastBegan = 0;
    for (let at = 0; at < text.length; at += lineBytes) {
      const value = Number(text.slice(at, at + lineBytes));
      const line = this.#lines.get(value);
      if (!line) throw new Violation(`log: at ${at} stands what nobody appended`);
      if (seen.has(value)) throw new Violation(`log: line ${value} is there twice`);
      if (line.ended < lastBegan) throw new Violation(`log: line ${value} stands too late`);
      seen.add(value);
      lastBegan = Math.max(lastBegan, line.began);
    }
    for (const [value, { ended }] of this.#lines)
      if (ended < began && !seen.has(value)) throw new Violation(`log: line ${value} is lost`);
  }

  /** Of two hosts that make it at once one is the first. */
  async made({ stack: { fileSystem } }: Daemon): Promise<Ino> {
    try {
      return (await fileSystem.lookup(rootIno, name)).ino;
    } catch (error) {
      if (!isStorageError(error, 'not_found')) throw error;
    }
    try {
      return (await fileSystem.make(rootIno, name, { type: 'file', mode: 0o600 }, caller)).ino;
    } catch (error) {
      if (!isStorageError(error, 'exists')) throw error;
      return (await fileSystem.lookup(rootIno, name)).ino;
    }
  }

  #run(host: SimHost, what: string, act: (daemon: Daemon) => Promise<void>): void {
    const { daemon } = host;
    if (!daemon) return;
    act(daemon).catch((error: unknown) => {
      if (host.daemon === daemon) this.#world.fail(error, `log: ${what} at ${host.id}`);
    });
  }
}
