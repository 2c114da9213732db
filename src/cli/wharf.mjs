#!/usr/bin/env node
// Starts the `wharf` command with a Node that runs TypeScript: the package's own.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const own = fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url));
const major = Number(process.versions.node.split('.')[0]);
const node = existsSync(own) ? own : process.execPath;
if (node === process.execPath && major < 24) {
  process.stderr.write('wharf: Node.js 24 is needed; run `sh setup.sh run` in the clone first\n');
  process.exit(1);
}
const main = fileURLToPath(new URL('./main.ts', import.meta.url));
const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? (signal ? 1 : 0)));
