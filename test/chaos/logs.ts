/** Lines of errors in the hosts' logs, and the faults that explain them. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nowMs, wallMsOf } from '../support/mount-user.ts';
import type { Chronicle } from './chronicle.ts';
import type { HostName, KindName } from './plan.ts';
import { hostNames } from './plan.ts';

const errorLevel = 50;
/** A fault explains what comes of it so much later. */
const echoMs = 30_000;

const ofTheRegistry: readonly KindName[] = [
  ...(['stop-short', 'stop-long', 'cut-all', 'cut-registry', 'lose-to-etcd'] as const),
  ...(['etcd-kill', 'etcd-kill-two'] as const),
];

const explained: Readonly<Record<string, readonly KindName[]>> = {
  "lease was lost: what this host served is another's to take; joining again": ofTheRegistry,
  'read cache takes no lines: its disk fails or is full': ['ssd-full'],
  'host is not drained': [...ofTheRegistry, 'drain'],
  // A stop is bounded: what was not flushed is given up when the store or the registry is away.
  'changes of a file in use could not be flushed': [...ofTheRegistry, 'drain'],
  'changes since the last flush are lost': ['drain'],
};

interface Line {
  readonly level: number;
  readonly time: number;
  readonly msg: string;
}

/** What no fault explains is a finding. */
export function judgeLogs(chronicle: Chronicle): void {
  for (const name of hostNames) {
    const text = readFileSync(join(chronicle.folder, `host-${name}.log`), 'utf8');
    for (const line of text.split('\n')) judge(chronicle, name, line);
  }
}

function judge(chronicle: Chronicle, name: HostName, text: string): void {
  if (!text.startsWith('{')) return;
  let line: Line;
  try {
    line = JSON.parse(text) as Line;
  } catch {
    // A daemon was killed amid it.
    return;
  }
  if (line.level < errorLevel) return;
  chronicle.count(`logged: ${line.msg}`);
  const nowWallMs = wallMsOf(nowMs());
  const atMs = nowMs() - (nowWallMs - line.time);
  const kinds = explained[line.msg] ?? [];
  const steps = chronicle.during(atMs - echoMs, atMs);
  if (!steps.some(({ kind }) => kinds.includes(kind)))
    chronicle.find(`host ${name} logged an error that no fault explains: ${text}`);
}
