/** What a run has come to, for people. */

import { formatSize } from '../../src/daemon/units.ts';
import type { Stall } from './chronicle.ts';

export interface Outcome {
  readonly seed: number;
  /** False where somebody ended it. */
  readonly isWhole: boolean;
  readonly seconds: number;
  readonly rounds: number;
  /** How often each fault, errand and other event came about; bytes that were verified. */
  readonly counts: Readonly<Record<string, number>>;
  readonly writesAcknowledged: number;
  readonly writesFlushed: number;
  readonly longest: Stall;
  /** The most that was seen, by host. */
  readonly residentBytes: Readonly<Record<string, number>>;
  readonly findingCount: number;
  readonly findings: readonly string[];
  /** The folder with all logs, where it is kept. */
  readonly evidence?: string;
}

export function describeOutcome(outcome: Outcome): string {
  const { seed, seconds, rounds, counts, longest, findingCount, findings, evidence } = outcome;
  const resident = Object.entries(outcome.residentBytes)
    .map(([name, bytes]) => `${name} ${formatSize(bytes)}`)
    .join(', ');
  const shown = ([name, count]: [string, number]) =>
    `  ${name}: ${name.startsWith('bytes ') ? formatSize(count) : count}`;
  return [
    '',
    `seed ${seed}: ${rounds} rounds in ${seconds} s${outcome.isWhole ? '' : ', ended early'}`,
    ...Object.entries(counts).map(shown),
    `writes: ${outcome.writesAcknowledged} acknowledged, ${outcome.writesFlushed} of them flushed`,
    `longest wait: ${(longest.ms / 1000).toFixed(1)} s, ${longest.what} (${longest.cause})`,
    `memory at most: ${resident}`,
    ...(findingCount === 0
      ? ['no promise was broken']
      : [
          `${findingCount} promises were broken:`,
          ...findings.map((finding) => `  ${finding}`),
          `again: npm run chaos -- --seed ${seed}`,
        ]),
    ...(evidence === undefined ? [] : [`logs: ${evidence}`]),
    '',
  ].join('\n');
}
