/** Looks at everything while nothing is written: after each round, and at the end. */

import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/core/units.ts';
import type { ScrubFindings } from '../../src/daemon/scrub.ts';
import { nowMs } from '../support/mount-user.ts';
import type { Chronicle } from './chronicle.ts';
import type { Cluster } from './cluster.ts';
import type { DiskLoad } from './disk-load.ts';
import type { Errands } from './errands.ts';
import type { FileLoad } from './file-load.ts';
import type { Host } from './host.ts';

const readSectors = 512;
const pollMs = 200;
const scrubMsMax = 120_000;
/** Of memory, for a daemon with these few and small disks. */
const residentBytesMax = 400 * MiB;

export interface VerifierDeps {
  readonly cluster: Cluster;
  readonly chronicle: Chronicle;
  readonly disks: readonly DiskLoad[];
  readonly files: readonly FileLoad[];
  readonly errands: Errands;
  /** Aborted when all is being taken away: what fails then tells nothing. */
  readonly signal: AbortSignal;
}

export class Verifier {
  readonly #deps: VerifierDeps;
  /** The most that was seen, by host. */
  readonly resident = new Map<string, number>();

  constructor(deps: VerifierDeps) {
    this.#deps = deps;
  }

  /** Every disk and file through every mount, and what is kept through one. */
  async readBack(): Promise<void> {
    const { cluster, disks, files, errands } = this.#deps;
    for (const disk of disks) await this.#alike(disk.path, (host) => this.#readDisk(disk, host));
    for (const file of files) await this.#alike(file.name, (host) => file.look(host));
    for (const host of cluster.hosts) {
      await this.#attempt(`what is kept, at ${host.name}`, () => errands.check(host));
      await this.#attempt(`the status of ${host.name}`, () => this.#watchMemory(host));
    }
  }

  async #alike(what: string, read: (host: Host) => Promise<Buffer>): Promise<void> {
    const found: { readonly name: string; readonly bytes: Buffer }[] = [];
    for (const host of this.#deps.cluster.hosts)
      await this.#attempt(`${what} at ${host.name}`, async () => {
        found.push({ name: host.name, bytes: await read(host) });
      });
    const [first, ...others] = found;
    for (const other of others)
      if (first && !first.bytes.equals(other.bytes))
        this.#deps.chronicle.find(`${what} is not the same at ${first.name} and ${other.name}`);
  }

  async #readDisk(disk: DiskLoad, host: Host): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let first = 0; first < disk.record.sectors; first += readSectors)
      parts.push(await disk.readAndLook(host, first, readSectors));
    return Buffer.concat(parts);
  }

  /** Nothing is in trouble now: what can't be done is a finding. */
  async #attempt(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      const { chronicle, signal } = this.#deps;
      if (!signal.aborted)
        chronicle.find(`${what} can't be looked at: ${(error as Error).message}`);
    }
  }

  async #watchMemory(host: Host): Promise<void> {
    const { residentBytes, alarms } = await host.status();
    const most = Math.max(residentBytes, this.resident.get(host.name) ?? 0);
    this.resident.set(host.name, most);
    if (residentBytes > residentBytesMax)
      this.#deps.chronicle.find(`daemon of ${host.name} takes ${residentBytes} bytes of memory`);
    for (const alarm of alarms) this.#deps.chronicle.find(`alarm of ${host.name}: ${alarm}`);
  }

  /** By the scrub of one host. */
  async scrub(): Promise<void> {
    const { cluster, chronicle } = this.#deps;
    const host = cluster.hosts[0] as Host;
    const name = 'demo';
    let found = await host.ask<ScrubFindings>('POST', 'vpool/scrub', { name });
    const deadlineMs = nowMs() + scrubMsMax;
    while (found.state === 'running' && nowMs() < deadlineMs) {
      await sleep(pollMs);
      found = await host.ask<ScrubFindings>('GET', 'vpool/scrub', { name });
    }
    if (found.state !== 'done') chronicle.find(`the scrub is ${found.state}: ${found.why ?? ''}`);
    for (const each of found.findings) {
      const text = `scrub: ${JSON.stringify(each)}`;
      if (each.kind === 'damage') chronicle.find(text);
      else chronicle.note(text);
    }
    chronicle.count('bytes scrubbed', found.readBytes);
    chronicle.count('waste that the scrub found', found.waste);
  }
}
