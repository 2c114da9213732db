/** Content that says where it belongs and who wrote it: the value of a unit, all over it. */

import { Violation } from './history.ts';

/** Of `count` units from `first` on; value 0 is zeroes. */
export function stamped(
  { disk, unitBytes }: { readonly disk: number; readonly unitBytes: number },
  first: number,
  count: number,
  value: number,
): Uint8Array {
  const bytes = new Uint8Array(count * unitBytes);
  if (value === 0) return bytes;
  const words = new Uint32Array(bytes.buffer);
  const perUnit = unitBytes / 4;
  for (let index = 0; index < count; index += 1) {
    const start = index * perUnit;
    words.fill(value, start, start + perUnit);
    words[start] = placeOf(disk, first + index);
  }
  return bytes;
}

/** The values of the units; a unit that is torn, or belongs elsewhere, is a violation. */
export function valuesOf(
  { disk, unitBytes }: { readonly disk: number; readonly unitBytes: number },
  first: number,
  bytes: Uint8Array,
): number[] {
  const values: number[] = [];
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const perUnit = unitBytes / 4;
  for (let index = 0; index < bytes.length / unitBytes; index += 1) {
    const start = index * perUnit;
    const value = words[start + 1] as number;
    for (let at = start + 2; at < start + perUnit; at += 1)
      if (words[at] !== value)
        throw new Violation(`disk ${disk}, unit ${first + index}: torn: ${value} and ${words[at]}`);
    const place = value === 0 ? 0 : placeOf(disk, first + index);
    if (words[start] !== place)
      throw new Violation(
        `disk ${disk}, unit ${first + index}: content of another place: ${words[start]}`,
      );
    values.push(value);
  }
  return values;
}

const placeOf = (disk: number, unit: number) => (disk << 16) | unit;
