/**
 * Sorting by number in linear time (LSD radix sort), in steps: comparing a quarter of a million
 * keys holds up all else for a tenth of a second.
 */

const digitBits = 11;
const digitMask = (1 << digitBits) - 1;
const wordSize = 2 ** 32;
/** Of keys, which take far less than a millisecond. */
const stepKeys = 16_384;

/**
 * Gives the indexes of `keys`, natural numbers below 2^53, in ascending order of the keys; equal
 * ones keep their order. Each step is short; `keys` may not change until the last one.
 */
export function* orderBy(keys: Float64Array): Generator<undefined, Uint32Array> {
  const count = keys.length;
  const low = new Uint32Array(count);
  const high = new Uint32Array(count);
  let order = new Uint32Array(count);
  let spare = new Uint32Array(count);
  let largest = 0;
  for (let index = 0; index < count; index += 1) {
    const key = keys[index] as number;
    low[index] = key % wordSize;
    high[index] = key / wordSize;
    order[index] = index;
    if (key > largest) largest = key;
    if (index % stepKeys === stepKeys - 1) yield;
  }
  for (const { words, shift } of digitsUpTo(largest, low, high)) {
    yield* sortByDigit(words, shift, order, spare);
    [order, spare] = [spare, order];
  }
  return order;
}

/** Lowest first: where the digits of keys lie that are not zero in all of them. */
function* digitsUpTo(largest: number, low: Uint32Array, high: Uint32Array) {
  for (const [words, most] of [
    [low, Math.min(largest, wordSize - 1)],
    [high, largest / wordSize],
  ] as const)
    for (let shift = 0; most >= 2 ** shift; shift += digitBits) yield { words, shift };
}

/** Those of `from` into `to`, in the order of one digit of their words. */
function* sortByDigit(
  words: Uint32Array,
  shift: number,
  from: Uint32Array,
  to: Uint32Array,
): Generator<undefined> {
  const next = new Uint32Array(digitMask + 2);
  for (let at = 0; at < words.length; at += stepKeys) {
    for (const word of words.subarray(at, at + stepKeys)) {
      const after = ((word >>> shift) & digitMask) + 1;
      next[after] = (next[after] as number) + 1;
    }
    yield;
  }
  for (let digit = 1; digit < next.length; digit += 1)
    next[digit] = (next[digit] as number) + (next[digit - 1] as number);
  for (let at = 0; at < from.length; at += stepKeys) {
    for (const index of from.subarray(at, at + stepKeys)) {
      const digit = ((words[index] as number) >>> shift) & digitMask;
      const place = next[digit] as number;
      next[digit] = place + 1;
      to[place] = index;
    }
    yield;
  }
}
