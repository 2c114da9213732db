/**
 * Fuzzes decoders for longer than the tests do, one after another:
 * `npm run fuzz -- [--decoder NAME] [--seed N] [--minutes M]`. `--input HEX` gives one input, as a
 * finding prints it; `--samples` writes what the encoders make into the corpus.
 */

import { parseArgs } from 'node:util';
import { readCorpus, writeSamples } from './corpus.ts';
import { fuzz } from './fuzzer.ts';
import { judge } from './judge.ts';
import { describeFinding } from './report.ts';
import { targets } from './targets.ts';

const { values } = parseArgs({
  options: {
    decoder: { type: 'string' },
    seed: { type: 'string' },
    minutes: { type: 'string', default: '1' },
    input: { type: 'string' },
    samples: { type: 'boolean', default: false },
  },
});
const chosen = targets.filter(
  ({ name }) => values.decoder === undefined || name === values.decoder,
);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
const millis = Number(values.minutes) * 60_000;
if (chosen.length === 0 || !Number.isSafeInteger(seed) || !(millis > 0)) {
  const names = targets.map(({ name }) => name).join(', ');
  process.stderr.write(`a seed is a number, and decoders are ${names}\n`);
  process.exit(2);
}
const print = (text: string) => process.stdout.write(`${text}\n`);

if (values.samples) for (const target of chosen) writeSamples(target);
else if (values.input !== undefined) {
  const [target] = chosen;
  if (target) print(await judge(target, new Uint8Array(Buffer.from(values.input, 'hex'))));
} else process.exitCode = await fuzzAll();

async function fuzzAll(): Promise<number> {
  let findings = 0;
  print(`seed ${seed}`);
  for (const target of chosen) {
    const end = performance.now() + millis / chosen.length;
    const corpus = [...readCorpus(target).values()];
    const isOver = () => performance.now() > end;
    const { finding, inputs, taken } = await fuzz(target, corpus, { seed, isOver });
    print(`${target.name.padEnd(16)} ${inputs} inputs, ${taken} taken`);
    if (!finding) continue;
    findings += 1;
    print(describeFinding(target, seed, finding));
  }
  return findings === 0 ? 0 : 1;
}
