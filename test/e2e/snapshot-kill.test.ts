/**
 * kill -9 of the daemon somewhere in the making and deleting of snapshots, clones and templates, in
 * rollbacks and flattening: after each, what was asked for is there as a whole or not at all, every
 * disk and every snapshot reads as it should, and what was left half-done can be done again.
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/core/units.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount } from '../support/playground.ts';

const rounds = Number(process.env['WHARF_SNAPSHOT_KILLS'] ?? 14);
const sizeBytes = 2 * MiB;
const delayMsMax = 60;
const path = '/disk.raw';

class Trial {
  readonly daemon: Daemon;
  readonly #random: () => number;
  /** What the disk and each snapshot of it hold, as one byte over and over. */
  readonly #snapshots = new Map<string, number>();
  #value = 0;
  #number = 0;
  readonly counts = { done: 0, undone: 0 };

  constructor(daemon: Daemon, random: () => number) {
    this.daemon = daemon;
    this.#random = random;
  }

  async round(): Promise<void> {
    this.#number += 1;
    await this.#write();
    const what = this.#random();
    if (what < 0.35) await this.#snapshot();
    else if (what < 0.55) await this.#rollBack();
    else if (what < 0.7) await this.#deleteSnapshot();
    else await this.#clone();
    await this.#check('/disk.raw', this.#value);
    assert.deepEqual((await this.#names()).sort(), [...this.#snapshots.keys()].sort());
  }

  /** Everything is as it was noted, and can go. */
  async end(): Promise<void> {
    for (const [name, value] of this.#snapshots) {
      await this.#ask('vdisk/clone', { name, to: '/look.raw' });
      await this.#check('/look.raw', value);
      await fs.unlink(this.daemon.at('look.raw'));
    }
    for (const name of this.#snapshots.keys())
      await this.daemon.until(`snapshot ${name} is deleted`, async () => {
        const response = await this.#send('vdisk/snapshot/delete', { name });
        return response.ok;
      });
    await fs.unlink(this.daemon.at('disk.raw'));
  }

  async #snapshot(): Promise<void> {
    const name = `s${this.#number}`;
    await this.#killed('vdisk/snapshot/create', { name });
    if (this.#note((await this.#names()).includes(name))) this.#snapshots.set(name, this.#value);
  }

  async #rollBack(): Promise<void> {
    const name = this.#any();
    if (name === undefined) return;
    const before = await this.#names();
    await this.#killed('vdisk/snapshot/rollback', { name });
    const fresh = (await this.#names()).filter((found) => !before.includes(found));
    assert.ok(fresh.length <= 1);
    // Of both, or of none: what the disk was is kept in the very change that makes it what it is.
    if (!this.#note(fresh.length === 1)) return;
    this.#snapshots.set(fresh[0] as string, this.#value);
    this.#value = this.#snapshots.get(name) as number;
  }

  async #deleteSnapshot(): Promise<void> {
    const name = this.#any();
    if (name === undefined) return;
    await this.#killed('vdisk/snapshot/delete', { name });
    if (this.#note(!(await this.#names()).includes(name))) this.#snapshots.delete(name);
  }

  /** And flattened, with a kill there too, and deleted. */
  async #clone(): Promise<void> {
    const name = this.#random() < 0.5 ? this.#any() : undefined;
    const value = name === undefined ? this.#value : (this.#snapshots.get(name) as number);
    const asked = { to: '/clone.raw', ...(name !== undefined && { name }) };
    await this.#killed('vdisk/clone', asked);
    const isThere = await fs.stat(this.daemon.at('clone.raw')).catch(() => undefined);
    if (!this.#note(isThere !== undefined)) await this.#ask('vdisk/clone', asked);
    await this.#check('/clone.raw', value);
    await this.#killed('vdisk/flatten', { path: '/clone.raw' });
    await this.#check('/clone.raw', value);
    if (this.#random() < 0.5) await this.#ask('vdisk/flatten', { path: '/clone.raw' });
    await this.#check('/clone.raw', value);
    await fs.unlink(this.daemon.at('clone.raw'));
  }

  /** Not on the backend yet when something is asked for. */
  async #write(): Promise<void> {
    const file = await fs.open(this.daemon.at('disk.raw'), this.#number === 1 ? 'w' : 'r+');
    this.#value = 1 + (this.#number % 255);
    await file.write(Buffer.alloc(sizeBytes, this.#value), 0, sizeBytes, 0);
    await file.sync();
    await file.close();
  }

  async #check(name: string, value: number): Promise<void> {
    const found = await fs.readFile(this.daemon.at(name.slice(1)));
    assert.equal(found.length, sizeBytes, name);
    const wrong = found.findIndex((byte) => byte !== value);
    assert.equal(wrong, -1, `${name} is ${found[wrong]} at ${wrong}, not ${value}`);
  }

  async #names(): Promise<string[]> {
    const query = new URLSearchParams({ path });
    const response = await fetch(`${this.daemon.admin}/v1/vdisk/snapshots?${query.toString()}`);
    const { snapshots } = (await response.json()) as { snapshots: { name: string }[] };
    return snapshots.map(({ name }) => name);
  }

  /** The daemon dies while it does what is asked for, or just after; and is started again. */
  async #killed(what: string, query: Record<string, string>): Promise<void> {
    const sent = this.#send(what, query).catch(() => undefined);
    await sleep(this.#random() * delayMsMax);
    await this.daemon.end('SIGKILL');
    await sent;
    await this.daemon.start();
  }

  async #ask(what: string, query: Record<string, string>): Promise<void> {
    const response = await this.#send(what, query);
    assert.ok(response.ok, `${what}: ${await response.text()}`);
  }

  #send(what: string, query: Record<string, string>): Promise<Response> {
    const all = new URLSearchParams({ path, ...query });
    return fetch(`${this.daemon.admin}/v1/${what}?${all.toString()}`, { method: 'POST' });
  }

  #note(isDone: boolean): boolean {
    this.counts[isDone ? 'done' : 'undone'] += 1;
    return isDone;
  }

  #any(): string | undefined {
    const names = [...this.#snapshots.keys()];
    return names[Math.floor(this.#random() * names.length)];
  }
}

test(`snapshots and clones survive ${rounds} kills`, { skip: cannotMount }, async (t) => {
  const seed = Number(process.env['WHARF_SEED'] ?? Math.floor(Math.random() * 1e9));
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  await using daemon = new Daemon();
  await daemon.start();
  const trial = new Trial(daemon, () => random.fraction());
  for (let round = 0; round < rounds; round += 1) await trial.round();
  await trial.end();
  t.diagnostic(JSON.stringify(trial.counts));
});
