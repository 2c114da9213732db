/**
 * Small files, as of VM configurations: written under another name, flushed or not, and renamed into
 * place, at one host after another; read at all. Each says which version it is.
 *
 * May be found: what the last rename that returned has put there, or what one has that did not
 * return. A file that was not flushed may be empty once a host has died.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadDeps } from './disk-load.ts';
import type { Host } from './host.ts';

const fileBytes = 6000;
const pauseMs = 150;
const shareOfFlushed = 0.7;
const shareOfReads = 0.5;
const empty = 'empty';

const contentOf = (name: string, version: number) =>
  Buffer.from(`${name} ${version} `.repeat(fileBytes).slice(0, fileBytes));

export class FileLoad {
  readonly name: string;
  readonly #deps: LoadDeps;
  /** Versions, or `empty`; 0 where there is no file. */
  #allowed = new Set<number | typeof empty>([0]);
  #version = 0;
  #isOn = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(name: string, deps: LoadDeps) {
    this.name = name;
    this.#deps = deps;
  }

  start(): void {
    this.#isOn = true;
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#isOn = false;
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { cluster, random, chronicle } = this.#deps;
    while (this.#isOn) {
      await sleep(pauseMs * 2 * random());
      const host = cluster.hosts[Math.floor(random() * cluster.hosts.length)] as Host;
      if (!host.isUp) continue;
      try {
        if (random() < shareOfReads) await this.look(host);
        else await this.#replace(host, random() < shareOfFlushed ? 'flushed' : 'unflushed');
      } catch (error) {
        chronicle.lost(error);
      }
    }
  }

  async #replace(host: Host, how: 'flushed' | 'unflushed'): Promise<void> {
    this.#version += 1;
    const version = this.#version;
    const path = this.name;
    // Nobody else's, should an attempt that was cut short come late.
    const by = host.daemon.at(`${path}.${version}`);
    const after: (number | typeof empty)[] = how === 'flushed' ? [version] : [version, empty];
    const before = this.#allowed;
    this.#allowed = new Set([...before, ...after]);
    await host.call(path, { what: 'replace', by, bytes: contentOf(path, version), how });
    this.#allowed = new Set(after);
    this.#deps.chronicle.count(`files replaced, ${how}`);
  }

  /** Nobody replaces it meanwhile. Gives what was found. */
  async look(host: Host): Promise<Buffer> {
    if (this.#allowed.has(0)) return Buffer.alloc(0);
    const bytes = await host.call(this.name, { what: 'get' });
    const found = this.#versionIn(bytes);
    this.#deps.chronicle.count('bytes verified', bytes.length);
    if (found === undefined || !this.#allowed.has(found)) {
      const allowed = [...this.#allowed].join(' or ');
      const what = found ?? `${bytes.length} bytes that nobody wrote`;
      this.#deps.chronicle.find(`${this.name}: ${what}, not ${allowed}, read at ${host.name}`);
      // Said once.
      if (found !== undefined) this.#allowed.add(found);
    }
    return bytes;
  }

  #versionIn(bytes: Buffer): number | typeof empty | undefined {
    if (bytes.length === 0) return empty;
    const version = Number(bytes.toString('latin1').split(' ')[1]);
    return bytes.equals(contentOf(this.name, version)) ? version : undefined;
  }
}
