/**
 * Runs the tests: `npm test`, or a part of them: `npm test -- unit/log`. Files of unit,
 * conformance and model tests run side by side, end-to-end tests one after another, all in one
 * temporary folder, in which nothing may be left. Ends with what was skipped and why, and the
 * summary that CI looks for.
 */

import { chmodSync, globSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { leaksIn } from './leaks.ts';

const root = join(import.meta.dirname, '..');
const parts = process.argv.slice(2);
const fileTimeoutMs = 10 * 60_000;

const files = (...patterns: string[]) =>
  globSync(patterns, { cwd: join(root, 'test') })
    .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
    .sort()
    .map((file) => join(root, 'test', file));

const stages = [
  {
    files: files(
      ...['tidy/*.test.ts', 'unit/**/*.test.ts', 'conformance/*.test.ts', 'model/*.test.ts'],
      'sim/*.test.ts',
    ),
    concurrency: availableParallelism(),
  },
  { files: files('e2e/**/*.test.ts'), concurrency: 1 },
];

const totals = { tests: 0, passed: 0, failed: 0, skipped: 0 };
const skipped: string[] = [];
const began = performance.now();

async function runStage(stage: (typeof stages)[number]): Promise<void> {
  if (stage.files.length === 0) return;
  const stream = run({ ...stage, timeout: fileTimeoutMs });
  stream.on('test:pass', ({ name, details, skip }) => {
    if (details.type === 'suite') return;
    totals.tests += 1;
    if (skip === undefined) totals.passed += 1;
    else {
      totals.skipped += 1;
      skipped.push(`${name}: ${typeof skip === 'string' ? skip : 'no reason given'}`);
    }
  });
  stream.on('test:fail', ({ details }) => {
    if (details.type === 'suite') return;
    totals.tests += 1;
    totals.failed += 1;
  });
  const reporter = new spec();
  stream.pipe(reporter).pipe(process.stdout, { end: false });
  await new Promise((resolve) => reporter.on('end', resolve));
}

if (stages.every((stage) => stage.files.length === 0)) {
  process.stderr.write(`no test file matches ${parts.join(' ') || 'anything'}\n`);
  process.exit(1);
}
const folder = mkdtempSync(join(tmpdir(), 'wharf-test-'));
// Other users have tests here too.
chmodSync(folder, 0o711);
const runtimeFolder = join(folder, 'runtime');
process.env['TMPDIR'] = folder;
process.env['XDG_RUNTIME_DIR'] = runtimeFolder;
for (const stage of stages) await runStage(stage);
rmSync(runtimeFolder, { recursive: true, force: true });

const leaks = leaksIn(folder);
if (leaks.length === 0) rmSync(folder, { recursive: true });
else {
  totals.tests += 1;
  totals.failed += 1;
  process.stdout.write(`\nleft behind by tests:\n${leaks.map((leak) => `  ${leak}\n`).join('')}`);
}

if (skipped.length > 0)
  process.stdout.write(`\nskipped:\n${skipped.map((line) => `  ${line}\n`).join('')}`);
const seconds = ((performance.now() - began) / 1000).toFixed(1);
process.stdout.write(
  `\n# tests ${totals.tests}\n# pass ${totals.passed}\n# fail ${totals.failed}\n` +
    `# skipped ${totals.skipped}\n# duration ${seconds} s\n` +
    `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`,
);
process.exitCode = totals.failed > 0 || totals.passed === 0 ? 1 : 0;
