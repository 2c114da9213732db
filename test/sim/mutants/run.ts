/**
 * Who checks the checker: plants one bug after another in Wharf and has the simulator look for it:
 * `npm run sim:mutants`.
 *
 *   --only A,B   those bugs
 *   --missed     those that nobody has noticed yet, instead of the others
 *   --seeds N    how many seeds each gets, 400 if not given
 *   --write      the table into docs/simulation.md
 *
 * Exit status 1 when nobody notices one, or when one can't be planted any more.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Mutant } from './mutant.ts';
import type { MutantReport } from './mutant-report.ts';
import { hunt } from './mutant-report.ts';
import { missed, mutants } from './table.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    missed: { type: 'boolean', default: false },
    seeds: { type: 'string', default: '400' },
    write: { type: 'boolean', default: false },
  },
});
const atOnce = 2;
const marks = { begin: '<!-- mutants -->', end: '<!-- end of mutants -->' };
const page = join(import.meta.dirname, '../../../docs/simulation.md');

const print = (text: string) => void process.stdout.write(text);

/** The promise without the numbers and names of the one run. */
function shortened(broken: string): string {
  const promise = broken.replace(/^(?:\/?[\w.]+ (?:after|is|at)[^:]*|run|\/[\w.]+|[a-z ]+): /, '');
  return promise.replaceAll('|', '/').replaceAll(/\s+/g, ' ').slice(0, 90);
}

function rowOf({ name, breaks }: Mutant, { seeds, seconds, broken }: MutantReport): string {
  const found = broken === undefined ? `**nobody, in ${seeds} seeds**` : shortened(broken);
  return `| ${name} | ${breaks} | ${seeds} | ${seconds.toFixed(0)} | ${found} |`;
}

const seedsOf = (row: string) => Number(row.split('|')[3]);

const head = [
  '| bug | what it breaks | seeds | s | what was noticed |',
  '|---|---|---|---|---|',
].join('\n');
const only = values.only?.split(',');
const chosen = mutants.filter(
  ({ name }) => only?.includes(name) ?? missed.has(name) === values.missed,
);
const rows = new Map<Mutant, string>();
const waiting = chosen.values();

async function worker(): Promise<void> {
  for (const mutant of waiting) {
    try {
      const report = await hunt(mutant.name, Number(values.seeds));
      if (report.broken === undefined) process.exitCode = 1;
      rows.set(mutant, rowOf(mutant, report));
    } catch (error) {
      process.exitCode = 1;
      rows.set(mutant, `| ${mutant.name} | ${(error as Error).message} | | | |`);
    }
    print(`${rows.get(mutant)}\n`);
  }
}

await Promise.all(Array.from({ length: atOnce }, worker));
if (values.write) {
  const text = readFileSync(page, 'utf8');
  const [before = '', rest = ''] = text.split(marks.begin);
  const [old = '', after = ''] = rest.split(marks.end);
  const written = old.split('\n');
  // Of those that were not chosen, what an earlier run has found stays.
  const table = mutants
    .flatMap((mutant) => {
      const known = written.find((row) => row.startsWith(`| ${mutant.name} |`));
      return rows.get(mutant) ?? known ?? [];
    })
    .sort((one, other) => seedsOf(one) - seedsOf(other));
  const lines = [marks.begin, head, ...table, marks.end].join('\n');
  writeFileSync(page, `${before}${lines}${after}`);
}
