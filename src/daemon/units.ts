/** Sizes and times as people write them, both ways. */

const sizeUnits = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;
const timeUnits = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000 } as const;

function parse(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text) ?? [];
  const factor = unit !== undefined && Object.hasOwn(units, unit) ? units[unit] : undefined;
  return factor === undefined ? undefined : Number(digits) * factor;
}

/** Bytes of `4MiB`; undefined where it is no size. */
export function parseSize(text: string): number | undefined {
  const bytes = /^\d+$/.test(text)
    ? Number(text)
    : parse(text, { ...sizeUnits, K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 });
  return bytes === undefined ? undefined : Math.round(bytes);
}

/** Milliseconds of `250ms`; undefined where it is no time. */
export function parseTime(text: string): number | undefined {
  return parse(text, timeUnits);
}

export function formatSize(bytes: number): string {
  const unit = (['TiB', 'GiB', 'MiB', 'KiB'] as const).find((name) => bytes >= sizeUnits[name]);
  if (unit === undefined) return `${bytes} B`;
  const value = bytes / sizeUnits[unit];
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
}

export function formatTime(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

/** ISO 8601, UTC, to the millisecond. */
export function writeMoment(wallNs: bigint): string {
  return new Date(Number(wallNs / 1_000_000n)).toISOString();
}

/** As it stands in settings: in the largest unit that divides it. */
export function writeSize(bytes: number): string {
  return write(bytes, sizeUnits, 'B');
}

/** As it stands in settings: in the largest unit that divides it. */
export function writeTime(ms: number): string {
  return write(ms, timeUnits, 's');
}

/** `unitOfZero` is what a zero is written with. */
function write(value: number, units: Readonly<Record<string, number>>, unitOfZero: string): string {
  if (value === 0) return `0${unitOfZero}`;
  // Division of fractions is not exact; a millionth of a unit is nothing anybody writes.
  const inUnit = (factor: number) => Math.round((value / factor) * 1e6) / 1e6;
  const divides = (factor: number) =>
    factor >= 1 ? value % factor === 0 : Number.isInteger(inUnit(factor));
  const fitting = Object.entries(units).filter(
    ([, factor]) => inUnit(factor) >= 1 && divides(factor),
  );
  const [unit, factor] = fitting.at(-1) ?? Object.entries(units)[0] ?? ['', 1];
  return `${inUnit(factor)}${unit}`;
}
