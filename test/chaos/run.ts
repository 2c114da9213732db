/**
 * A chaos run on real daemons, mounts, etcd and S3: `npm run chaos -- --minutes M [--seed N]
 * [--json] [--keep]`; with --keep the logs stay in any case.
 * Exit codes: 0 no promise was broken, 1 one was, 2 it can't be run here or was asked for wrongly.
 * Ctrl-C ends it early, and cleans up.
 */

import { parseArgs } from 'node:util';
import { etcdMissing } from '../support/etcd.ts';
import { networksMissing } from '../support/networks.ts';
import { cannotMount } from '../support/playground.ts';
import { chaos } from './chaos.ts';
import { describeOutcome } from './outcome.ts';

const defaultMinutes = '5';
const seedMax = 1_000_000_000;

function refuse(why: string): never {
  process.stderr.write(`nothing is run: ${why}\n`);
  process.exit(2);
}

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: defaultMinutes },
    seed: { type: 'string', default: String(Math.floor(Math.random() * seedMax)) },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const [minutes, seed] = [Number(values.minutes), Number(values.seed)];
if (!(minutes > 0)) refuse(`--minutes: found ${values.minutes}; allowed is a number above 0`);
if (!Number.isSafeInteger(seed) || seed < 0)
  refuse(`--seed: found ${values.seed}; allowed is a whole number, 0 or more`);
const missing = cannotMount || etcdMissing;
if (missing !== false) refuse(missing);

const ended = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => ended.abort());
const print = (text: string) => void (values.json ? process.stderr : process.stdout).write(text);
if (networksMissing !== false) print(`links are not cut: ${networksMissing}\n`);
const keep = values.keep ? 'always' : 'where a promise was broken';
const { signal } = ended;
const outcome = await chaos({ seed, forMs: minutes * 60_000, keep, print, signal });
if (values.json) process.stdout.write(`${JSON.stringify(outcome)}\n`);
else process.stdout.write(describeOutcome(outcome));
process.exit(outcome.findingCount > 0 ? 1 : 0);
