/**
 * Measures what is promised of speed, on real daemons and mounts: all of it briefly, or what is named
 * thoroughly. Subject and baseline take turns, several times. Nothing fails for being slow, for the
 * machine may be busy; only where `--gate` asks for it, a run ends with 1 if it is worse than the last
 * one that `--accept` has kept. A bench that fails is told, and the others are measured.
 */

import { parseArgs } from 'node:util';
import { cannotMount } from '../support/playground.ts';
import { busy } from './busy.ts';
import { destage } from './destage.ts';
import { drain } from './drain.ts';
import type { Effort } from './effort.ts';
import { brief, thorough } from './effort.ts';
import { forwarding } from './forwarding.ts';
import { compareWith } from './gate.ts';
import { handover } from './handover.ts';
import { large } from './large.ts';
import { lifecycle } from './lifecycle.ts';
import { onSignals } from './on-signals.ts';
import { path, ssd } from './owner.ts';
import { replication } from './replication.ts';
import { Report } from './report.ts';
import { accept, factsOf, readAccepted, tableOf, writeResults } from './results.ts';
import { rivals } from './rivals.ts';
import { takeover } from './takeover.ts';

const benches: Readonly<Record<string, (report: Report, effort: Effort) => Promise<void>>> = {
  path,
  ssd,
  rivals,
  destage,
  busy,
  large,
  forwarding,
  replication,
  handover,
  takeover,
  drain,
  lifecycle,
};

function refuse(why: string): never {
  process.stderr.write(`nothing is measured: ${why}\n`);
  process.exit(2);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    gate: { type: 'boolean', default: false },
    accept: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
  },
});
const known = Object.keys(benches);
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0) refuse(`there is no ${unknown.join()}, but ${known.join(', ')}`);
if (cannotMount !== false) refuse(cannotMount);

const usual = positionals.length > 0 ? thorough : brief;
const effort: Effort = {
  ...usual,
  rounds: Number(values.rounds ?? usual.rounds),
  seconds: Number(values.seconds ?? usual.seconds),
};
const isPossible = Number.isInteger(effort.rounds) && effort.rounds > 0 && effort.seconds > 0;
if (!isPossible) refuse('--rounds is a whole number, --seconds a number');

const startedMs = Date.now();
const ran = known.filter((name) => positionals.length === 0 || positionals.includes(name));
const report = new Report((text) => process.stdout.write(text));
const secondsOf: Record<string, number> = {};
let isInterrupted = false;
/** Whoever still waits for something then waits for nothing that will come. */
const cleanUpMsMax = 20_000;
using _interruption = onSignals(() => {
  isInterrupted = true;
  setTimeout(() => process.exit(1), cleanUpMsMax).unref();
});
for (const name of ran) {
  const beganMs = performance.now();
  report.bench(name);
  try {
    await benches[name]?.(report, effort);
  } catch (error) {
    if (isInterrupted) process.exit(1);
    report.note(`failed: ${error instanceof Error ? error.stack : String(error)}`);
    process.exitCode = 1;
  }
  secondsOf[name] = Math.round((performance.now() - beganMs) / 1000);
}
const facts = factsOf(startedMs, effort, secondsOf);
const file = writeResults(report, facts);
process.stdout.write(`\n${tableOf(report, facts)}\nall samples: ${file}\n`);
if (values.accept) accept(report, facts, ran);
if (values.gate) {
  const accepted = readAccepted() ?? refuse('no run was accepted yet (--accept)');
  const findings = compareWith(accepted, report.figures, ran);
  for (const { kind, text } of findings) process.stdout.write(`${kind}: ${text}\n`);
  if (findings.some(({ kind }) => kind !== 'unsure')) process.exitCode = 1;
}
