/** Runs a table of rows: everybody's disk is filled, then all take turns, row by row. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KiB, MiB } from '../../src/core/units.ts';
import type { Contender, Start } from './contenders/contender.ts';
import type { Effort } from './effort.ts';
import type { FioJob } from './fio.ts';
import { fill, fio, readThrough, verify } from './fio.ts';
import { interleave } from './interleave.ts';
import { onSignals } from './on-signals.ts';
import type { Report } from './report.ts';
import type { Against, Row } from './rows.ts';
import { run } from '../support/servers.ts';

export const subject = 'wharf';

export interface Entrant {
  readonly name: string;
  /** Why it can't run on this machine, or false. */
  readonly missing?: () => string | false | Promise<string | false>;
  readonly start: Start;
}

/** Those that are up, by name. The subject has to be. */
export class Field implements AsyncDisposable {
  readonly #closing = new AsyncDisposableStack();
  readonly #contenders = new Map<string, Contender>();
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
    this.#closing.defer(() => rmSync(root, { recursive: true, force: true }));
    this.#closing.use(onSignals(() => void this[Symbol.asyncDispose]()));
  }

  /** Each with a full disk in a folder of its own inside `parent`. */
  static async start(
    entrants: readonly Entrant[],
    { parent = tmpdir(), diskBytes }: { readonly parent?: string; readonly diskBytes: number },
    report: Report,
  ): Promise<Field> {
    const field = new Field(mkdtempSync(join(parent, 'wharf-bench-')));
    try {
      for (const entrant of entrants) {
        const why = (await entrant.missing?.()) ?? false;
        if (why === false) await field.#enter(entrant, diskBytes, report);
        else report.note(`${entrant.name} is not measured: ${why}`);
      }
      return field;
    } catch (error) {
      await field[Symbol.asyncDispose]();
      throw error;
    }
  }

  get(name: string): Contender | undefined {
    return this.#contenders.get(name);
  }

  /** A baseline that does not come up is left out, the subject is not. */
  async #enter(entrant: Entrant, diskBytes: number, report: Report): Promise<void> {
    const { name, start } = entrant;
    const folder = join(this.#root, name.replaceAll(' ', '-'));
    mkdirSync(folder);
    try {
      const contender = this.#closing.use(await start({ folder, diskBytes }));
      await fill(contender.disk, diskBytes);
      await this.settle(contender);
      await readThrough(contender.disk, diskBytes, 4);
      this.#contenders.set(name, contender);
    } catch (error) {
      if (name === subject) throw error;
      report.note(`${name} is not measured: it does not come up: ${oneLine(error)}`);
    }
  }

  /** Resolves when nothing that it wrote is under way, neither there nor in the page cache. */
  async settle(contender: Contender): Promise<void> {
    await contender.settle();
    await run('sync', ['--file-system', this.#root]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#closing.disposeAsync();
  }
}

interface Part {
  readonly name: string;
  readonly contender: Contender;
  readonly job: FioJob;
  readonly against?: Against;
  readonly rates: number[];
  readonly latenciesUs: number[];
}

export async function compareRow(
  report: Report,
  field: Field,
  row: Row,
  { rounds, seconds }: Effort,
): Promise<void> {
  const parts = partsOf(row, field);
  const failed = new Set<Part>();
  await interleave(parts, rounds, async (part) => {
    if (failed.has(part)) return;
    if (row.isUncached === true) emptyPageCache();
    try {
      const { perSecond, latencyUs } = await fio(part.contender.disk, part.job, seconds);
      part.rates.push(perSecond);
      part.latenciesUs.push(latencyUs.median);
      await field.settle(part.contender);
    } catch (error) {
      if (part.name === subject) throw error;
      failed.add(part);
      report.note(`${row.name}: ${part.name} can not: ${oneLine(error)}`);
    }
  });
  tell(
    report,
    row,
    parts.filter((part) => !failed.has(part)),
  );
}

function partsOf(row: Row, field: Field): Part[] {
  const wanted = [{ of: subject, job: row.job }, ...row.against];
  return wanted.flatMap((against, index) => {
    const contender = field.get(against.of);
    if (!contender) return [];
    const name = against.of === subject && index > 0 ? 'wharf, one writer' : against.of;
    const job = against.job ?? row.job;
    return [{ name, contender, job, rates: [], latenciesUs: [], ...(index > 0 && { against }) }];
  });
}

function tell(report: Report, { name, job }: Row, parts: readonly Part[]): void {
  report.title(name);
  const isLarge = job.blockBytes >= MiB;
  for (const part of parts) {
    if (job.depth === 1) report.line(`${part.name}, us`, part.latenciesUs);
    const unit = isLarge ? 'MiB/s' : '1/s';
    report.line(`${part.name}, ${unit}`, part.rates);
  }
  const [own] = parts;
  for (const { name: other, rates, against } of parts)
    if (own && against) report.ratio(`wharf / ${other}`, own.rates, rates, against.target);
}

/** Whether the subject gives back what it was given, under each of the jobs. */
export async function verifyRows(
  report: Report,
  field: Field,
  jobs: readonly FioJob[],
  bytes: number,
): Promise<void> {
  const contender = field.get(subject);
  if (!contender) return;
  report.title('what is written is read back and compared');
  for (const job of jobs) {
    const failure = await verify(contender.disk, job, bytes).then(() => undefined, oneLine);
    const sync = job.sync === undefined ? '' : ` + ${job.sync}`;
    const name = `${job.what}${sync}, ${job.blockBytes / KiB} KiB, QD${job.depth}: wrong runs`;
    report.line(name, [failure === undefined ? 0 : 1], { is: 'at most', value: 0 });
    if (failure !== undefined) report.note(failure);
  }
}

function emptyPageCache(): void {
  writeFileSync('/proc/sys/vm/drop_caches', '1');
}

function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s+/g, ' ').slice(0, 300);
}
