/**
 * Wharf with one bug planted in it, simulated from seed to seed until a promise breaks:
 * `node mutant-process.ts NAME FIRST..LAST`. Prints one line of JSON. The bug is put into the source while it
 * is loaded, so no file changes and several such processes can run side by side.
 */

import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { planted } from './mutant.ts';
import type { MutantReport } from './mutant-report.ts';
import { mutantNamed } from './table.ts';

const [name = '', seeds = '1..1'] = process.argv.slice(2);
const [first = 1, last = first] = seeds.split('..').map(Number);
const mutant = mutantNamed(name);
if (!mutant) throw new Error(`no mutant ${name}`);
const changesOf = Map.groupBy(
  mutant.changes,
  ({ file }) => new URL(`../../../src/${file}`, import.meta.url).href,
);

registerHooks({
  load: (url, context, nextLoad) => {
    const changes = changesOf.get(url);
    if (!changes) return nextLoad(url, context);
    changesOf.delete(url);
    const source = changes.reduce(
      (text, change) => planted(text, change, change.file),
      readFileSync(fileURLToPath(url), 'utf8'),
    );
    return { format: 'module-typescript', source, shortCircuit: true };
  },
});

const { runSeed } = await import('../seed.ts');
if (changesOf.size > 0) throw new Error(`${name} is planted where nothing runs`);
let broken: string | undefined;
let seed = first;
for (; seed <= last && broken === undefined; seed += 1)
  broken = (await runSeed(seed)).failure?.message;
const { user, system } = process.cpuUsage();
const report: MutantReport = { name, seeds: seed - first, seconds: (user + system) / 1e6, broken };
process.stdout.write(`${JSON.stringify(report)}\n`);
// What a broken promise leaves under way is nobody's business.
process.exit(0);
