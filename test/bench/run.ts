/**
 * Measures what is promised of speed, on real daemons and mounts: all of it, or what is named.
 * Subject and baseline take turns, several times; nothing is asserted, for the machine may be busy.
 */

import { cannotMount } from '../support/playground.ts';
import { drain } from './drain.ts';
import { forwarding } from './forwarding.ts';
import { handover } from './handover.ts';
import { lifecycle } from './lifecycle.ts';
import { replication } from './replication.ts';
import { Report } from './report.ts';
import { takeover } from './takeover.ts';

const benches: Readonly<Record<string, (report: Report) => Promise<void>>> = {
  forwarding,
  replication,
  handover,
  takeover,
  drain,
  lifecycle,
};

const named = process.argv.slice(2);
const unknown = named.filter((name) => !benches[name]);
if (unknown.length > 0 || cannotMount !== false) {
  const known = Object.keys(benches).join(', ');
  const why = cannotMount === false ? `there is no ${unknown.join()}, but ${known}` : cannotMount;
  process.stderr.write(`nothing is measured: ${why}\n`);
  process.exit(2);
}
const report = new Report((text) => process.stdout.write(text));
for (const [name, bench] of Object.entries(benches)) {
  if (named.length > 0 && !named.includes(name)) continue;
  process.stdout.write(`\n=== ${name}\n`);
  await bench(report);
}
