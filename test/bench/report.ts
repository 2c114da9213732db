/**
 * What a bench prints and keeps: a line for each figure, with the spread of its samples. On a machine
 * that others use too only ratios within one run say something, so they alone are compared between
 * runs.
 */

export interface Target {
  /** Which way is better. */
  readonly is: 'at most' | 'at least';
  /** What must be reached; undefined: the figure is only shown. */
  readonly value?: number;
  /** What has to keep to it; default: the median. */
  readonly of?: 'p99';
}

/** A line of the report. */
export interface Figure {
  readonly bench: string;
  readonly title: string;
  readonly name: string;
  readonly samples: readonly number[];
  readonly target?: Target | undefined;
  /** Of two things that were measured side by side. */
  readonly isRatio: boolean;
}

const columns = ['min', 'median', 'p99', 'max'] as const;
const nameWidth = 58;
const numberWidth = 9;
const digits = 3;

/** Of samples in any order; `share` from 0 to 1. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  const index = Math.min(sorted.length - 1, Math.floor(share * sorted.length));
  return sorted[index] ?? Number.NaN;
}

/** Of samples that were taken in the same rounds. */
export function ratiosOf(of: readonly number[], to: readonly number[]): number[] {
  return of.map((value, index) => value / (to[index] ?? Number.NaN));
}

/** What a figure is judged by. */
export function valueOf({ samples, target }: Pick<Figure, 'samples' | 'target'>): number {
  return percentile(samples, target?.of === 'p99' ? 0.99 : 0.5);
}

/** Undefined where nothing must be reached. */
export function verdictOf(figure: Figure): 'met' | 'MISSED' | undefined {
  const { is, value } = figure.target ?? {};
  if (is === undefined || value === undefined) return undefined;
  const found = valueOf(figure);
  return (is === 'at most' ? found <= value : found >= value) ? 'met' : 'MISSED';
}

export class Report {
  readonly #write: (text: string) => void;
  readonly figures: Figure[] = [];
  /** What could not be measured, and why. */
  readonly notes: string[] = [];
  #bench = '';
  #title = '';

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  bench(name: string): void {
    this.#bench = name;
    this.#write(`\n=== ${name}\n`);
  }

  title(text: string): void {
    this.#title = text;
    const head = columns.map((column) => column.padStart(numberWidth)).join('');
    this.#write(`\n${text.padEnd(nameWidth)}${head}\n`);
  }

  line(name: string, samples: readonly number[], target?: Target): void {
    this.#add({ name, samples, target, isRatio: false });
  }

  ratio(name: string, of: readonly number[], to: readonly number[], target?: Target): void {
    this.#add({ name, samples: ratiosOf(of, to), target, isRatio: true });
  }

  note(text: string): void {
    this.notes.push(`${this.#bench}: ${text}`);
    this.#write(`  ${text}\n`);
  }

  #add(line: Omit<Figure, 'bench' | 'title'>): void {
    const figure = { bench: this.#bench, title: this.#title, ...line };
    this.figures.push(figure);
    const shares = [0, 0.5, 0.99, 1].map((share) => percentile(line.samples, share));
    const numbers = shares.map((value) => inShort(value).padStart(numberWidth)).join('');
    const verdict = verdictOf(figure);
    const judged = verdict === undefined ? '' : `   ${inWords(line.target)}: ${verdict}`;
    this.#write(`  ${line.name.padEnd(nameWidth - 2)}${numbers}${judged}\n`);
  }
}

/** What must be reached; empty where nothing must. */
export function inWords(target: Target | undefined): string {
  if (target?.value === undefined) return '';
  return `${target.of ?? 'median'} ${target.is} ${inShort(target.value)}`;
}

export function inShort(value: number): string {
  return value >= 10 ** digits
    ? String(Math.round(value))
    : String(Number(value.toPrecision(digits)));
}
