/**
 * Wharf with one bug planted in it, simulated from seed to seed until a promise breaks:
 * `node mutant-process.ts NAME SEEDS`. Prints one line of JSON. The bug is put into the source while it
 * is loaded, so no file changes and several such processes can run side by side.
 */

import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { planted } from './mutant.ts';
import type { MutantReport } from './mutant-report.ts';
import { mutantNamed } from './table.ts';

const [name = '', seedsMax = '1'] = process.argv.slice(2);
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

const began = performance.now();
const { runSeed } = await import('../seed.ts');
if (changesOf.size > 0) throw new Error(`${name} is planted where nothing runs`);
let report: MutantReport | undefined;
let seed = 0;
while (!report?.broken && seed < Number(seedsMax)) {
  seed += 1;
  const { failure } = await runSeed(seed);
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  report = { name, seeds: seed, seconds, broken: failure?.message };
}
process.stdout.write(`${JSON.stringify(report)}\n`);
// What a broken promise leaves under way is nobody's business.
process.exit(0);
