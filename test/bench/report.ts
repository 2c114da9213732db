/**
 * What a bench prints: a line for each figure, with the spread of its samples. On a machine that
 * others use too only ratios within one run say something, so they alone have targets.
 */

export interface Target {
  readonly is: 'at most' | 'at least';
  readonly value: number;
  /** What has to keep to it; default: the median. */
  readonly of?: 'p99';
}

const columns = ['min', 'median', 'p99', 'max'] as const;
const nameWidth = 52;
const numberWidth = 9;
const digits = 3;

/** Of samples in any order; `share` from 0 to 1. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  const index = Math.min(sorted.length - 1, Math.floor(share * sorted.length));
  return sorted[index] ?? Number.NaN;
}

export class Report {
  readonly #write: (text: string) => void;

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  title(text: string): void {
    const head = columns.map((column) => column.padStart(numberWidth)).join('');
    this.#write(`\n${text.padEnd(nameWidth)}${head}\n`);
  }

  line(name: string, samples: readonly number[], target?: Target): void {
    const shares = [0, 0.5, 0.99, 1].map((share) => percentile(samples, share));
    const numbers = shares.map((value) => inShort(value).padStart(numberWidth)).join('');
    const verdict = target
      ? `   ${target.of ?? 'median'} ${target.is} ${inShort(target.value)}: ${judge(samples, target)}`
      : '';
    this.#write(`  ${name.padEnd(nameWidth - 2)}${numbers}${verdict}\n`);
  }

  /** Of samples that were taken side by side. */
  ratio(name: string, of: readonly number[], to: readonly number[], target?: Target): void {
    const ratios = of.map((value, index) => value / (to[index] ?? Number.NaN));
    this.line(name, ratios, target);
  }
}

function judge(samples: readonly number[], { is, value, of }: Target): string {
  const found = percentile(samples, of === 'p99' ? 0.99 : 0.5);
  return (is === 'at most' ? found <= value : found >= value) ? 'met' : 'MISSED';
}

function inShort(value: number): string {
  return value >= 10 ** digits
    ? String(Math.round(value))
    : String(Number(value.toPrecision(digits)));
}
