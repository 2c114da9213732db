/**
 * Simulated vPools, one from each seed: `npm run sim`, for a minute.
 *
 *   --seed N        one, again and to the letter; `--trace` shows all that happens
 *   --seeds A..B    those
 *   --minutes M     for so long, at most
 *   --coverage      how often each fault met each step of the protocols
 *   --json          one line of JSON for each seed
 *
 * Exit status 1 when a promise was broken: then what broke it is shown, as short as it gets.
 */

import { parseArgs } from 'node:util';
import { seededRandom } from '../../src/platform/random.ts';
import { planOf } from './planner.ts';
import { tableOf } from './protocol.ts';
import type { SeedResult } from './seed.ts';
import { runSeed } from './seed.ts';
import { shrunk } from './shrink.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    minutes: { type: 'string', default: '1' },
    coverage: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
  },
});
const linesShown = 40;

const write = (text: string) => void process.stdout.write(text);
const began = { at: performance.now(), cpu: process.cpuUsage() };
const endMs = began.at + Number(values.minutes) * 60_000;
const sums: Record<string, number> = {};
const coverage = new Map<string, number>();
let seeds = 0;

/** A failing one without `--seeds` begins anywhere, so that each run sees others. */
function range(): readonly [number, number] {
  const { seed, seeds: given } = values;
  if (seed !== undefined) return [Number(seed), Number(seed)];
  if (given === undefined) return [Math.floor(Date.now() / 1000) % 1_000_000_000, Number.MAX_VALUE];
  const [first, last] = given.split('..').map(Number);
  return [first ?? 1, last ?? first ?? 1];
}

function addTo(result: SeedResult): void {
  seeds += 1;
  const { simulatedMs, events } = result;
  for (const [what, count] of Object.entries({ simulatedMs, events, ...result.counts }))
    sums[what] = (sums[what] ?? 0) + count;
  for (const [cell, count] of result.coverage)
    coverage.set(cell, (coverage.get(cell) ?? 0) + count);
}

function summary(): string {
  const { user, system } = process.cpuUsage(began.cpu);
  const seconds = (user + system) / 1e6;
  const { simulatedMs = 0, ...counts } = sums;
  const times = Math.round(simulatedMs / 1000 / seconds);
  const did = Object.entries(counts).map(([what, count]) => `${count} ${what}`);
  return (
    `${seeds} seeds: ${(simulatedMs / 3_600_000).toFixed(1)} simulated hours in ` +
    `${seconds.toFixed(0)} s of a core, ${times} times real time\n${did.join(', ')}\n`
  );
}

async function explain({ seed, failure, lines }: SeedResult): Promise<void> {
  write(`\nseed ${seed} breaks a promise: ${failure?.message}\n`);
  const found = await shrunk(seed, planOf(seededRandom(seed)), failure as Error);
  write(`the shortest plan that still does (found in ${found.runs} runs):\n`);
  for (const step of found.plan.steps) write(`  ${JSON.stringify(step)}\n`);
  write('what happened then, at last:\n');
  for (const line of (found.result?.lines ?? lines).slice(-linesShown)) write(`  ${line}\n`);
  write(`again: npm run sim -- --seed ${seed} --trace\n`);
}

const [first, last] = range();
let toldMs = began.at;
for (let seed = first; seed <= last && performance.now() < endMs; seed += 1) {
  const result = await runSeed(seed, { isVerbose: values.trace });
  addTo(result);
  const { lines, failure, coverage: _coverage, ...facts } = result;
  if (values.trace) write(`${lines.join('\n')}\n`);
  if (values.json) write(`${JSON.stringify({ ...facts, failure: failure?.message ?? null })}\n`);
  else if (values.seed !== undefined) write(`${JSON.stringify(facts)}\n`);
  if (process.stdout.isTTY && !values.json && performance.now() - toldMs > 500) {
    toldMs = performance.now();
    write(`\r${seeds} seeds, the last one ${seed}`);
  }
  if (!failure) continue;
  process.exitCode = 1;
  if (!values.json && !values.trace) await explain(result);
  break;
}
if (!values.json) write(`${process.stdout.isTTY ? '\n' : ''}${summary()}`);
if (values.coverage) write(`${tableOf(coverage)}\n`);
