/** What a run leaves behind: all samples as JSON, and a table for people. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { GiB } from '../../src/core/units.ts';
import type { Effort } from './effort.ts';
import type { Accepted } from './gate.ts';
import { acceptable } from './gate.ts';
import type { Figure, Report } from './report.ts';
import { inShort, inWords, valueOf, verdictOf } from './report.ts';

const root = join(import.meta.dirname, '../..');
const folder = join(root, 'bench/results');
const acceptedFile = join(root, 'bench/accepted.json');

interface Facts {
  readonly startedAt: string;
  readonly seconds: number;
  /** By bench. */
  readonly secondsOf: Readonly<Record<string, number>>;
  readonly commit: string;
  readonly effort: Effort;
  readonly processor: string;
  readonly processors: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  /** Of the disk that is measured, as statfs(2) tells it. */
  readonly fileSystem: string;
}

export function factsOf(startedMs: number, effort: Effort, secondsOf: Facts['secondsOf']): Facts {
  const processors = cpus();
  return {
    startedAt: new Date(startedMs).toISOString(),
    seconds: Math.round((Date.now() - startedMs) / 1000),
    secondsOf,
    commit: commit(),
    effort,
    processor: processors[0]?.model ?? 'unknown',
    processors: processors.length,
    memoryGiB: Math.round(totalmem() / GiB),
    kernel: release(),
    node: process.version,
    fileSystem: `0x${statfsSync(tmpdir()).type.toString(16)}`,
  };
}

/** Of the tree that is measured; `+` where it has changes of its own. */
function commit(): string {
  const git = (...argv: string[]) =>
    execFileSync('git', argv, { cwd: root, encoding: 'utf8', stdio: 'pipe' }).trim();
  try {
    return `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '-uno') === '' ? '' : '+'}`;
  } catch {
    return 'unknown';
  }
}

/** Gives the path of the JSON file. */
export function writeResults(report: Report, facts: Facts): string {
  mkdirSync(folder, { recursive: true });
  const name = facts.startedAt.replaceAll(/[:.]/g, '-');
  const { figures, notes } = report;
  const path = join(folder, `${name}.json`);
  writeFileSync(path, `${JSON.stringify({ ...facts, notes, figures }, undefined, 1)}\n`);
  writeFileSync(join(folder, `${name}.md`), tableOf(report, facts));
  return path;
}

/** In Markdown: every ratio, and every figure that has a target. */
export function tableOf(
  { figures, notes }: Pick<Report, 'figures' | 'notes'>,
  facts: Facts,
): string {
  const { processors, processor, memoryGiB, kernel, node, startedAt, seconds, effort } = facts;
  const shown = figures.filter(({ isRatio, target }) => isRatio || target?.value !== undefined);
  return [
    `${startedAt}, ${seconds} s, commit ${facts.commit}, ${effort.rounds} rounds`,
    `${processors} × ${processor}, ${memoryGiB} GiB, Linux ${kernel}, Node ${node}`,
    '',
    '| bench | what | figure | found | must be | |',
    '|---|---|---|--:|---|---|',
    ...shown.map(rowOf),
    '',
    ...notes.map((note) => `- ${note}`),
    '',
  ].join('\n');
}

function rowOf(figure: Figure): string {
  const { bench, title, name, target } = figure;
  const found = inShort(valueOf(figure));
  return `| ${bench} | ${title} | ${name} | ${found} | ${inWords(target)} | ${verdictOf(figure) ?? ''} |`;
}

/** Undefined where none was ever accepted. */
export function readAccepted(): readonly Accepted[] | undefined {
  try {
    return (JSON.parse(readFileSync(acceptedFile, 'utf8')) as { ratios: Accepted[] }).ratios;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** In place of what was accepted of these benches; others stay. */
export function accept(report: Report, facts: Facts, ran: readonly string[]): void {
  const others = (readAccepted() ?? []).filter(({ bench }) => !ran.includes(bench));
  const ratios = [...others, ...acceptable(report.figures)];
  const { startedAt, commit: of, kernel, processors } = facts;
  const text = JSON.stringify({ startedAt, commit: of, kernel, processors, ratios }, undefined, 1);
  writeFileSync(acceptedFile, `${text}\n`);
}
