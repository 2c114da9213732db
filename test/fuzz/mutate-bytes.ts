/** Changes of bytes that decoders are likely to trip over. */

import type { Chance } from './chance.ts';
import { viewOf } from './target.ts';

type Change = (input: Uint8Array, chance: Chance, other: Uint8Array) => Uint8Array;

const concat = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** Lengths and counts: none, one, as many as fit into so many bits, one more. */
const numbers = [
  ...[0n, 1n, 2n, 3n, 8n, 255n, 256n, 257n, 4095n, 4096n, 4097n, 65_535n, 65_536n, 1n << 20n],
  ...[(1n << 24n) - 1n, 1n << 24n, (1n << 31n) - 1n, 1n << 31n, (1n << 32n) - 1n, 1n << 32n],
  ...[(1n << 53n) - 1n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n],
];
const doubles = [Number.NaN, Number.POSITIVE_INFINITY, -0, -1, 0.5, 2 ** 53, -(2 ** 53)];

/** A part of the input: most often a small one. */
function part(input: Uint8Array, chance: Chance): { from: number; to: number } {
  const from = chance.below(input.length + 1);
  const length = chance.once(3) ? chance.below(input.length - from + 1) : chance.below(33);
  return { from, to: Math.min(input.length, from + length) };
}

/** Fields stand at multiples of their size, nearly always. */
function field(input: Uint8Array, chance: Chance, bytes: number): number | undefined {
  if (input.length < bytes) return undefined;
  const last = input.length - bytes;
  const at = chance.below(last + 1);
  return chance.once(4) ? at : at - (at % Math.min(bytes, 4));
}

const changes: readonly Change[] = [
  function flipBit(input, chance) {
    const at = chance.below(input.length * 8);
    if (input.length > 0) input[at >> 3] = (input[at >> 3] as number) ^ (1 << (at & 7));
    return input;
  },
  function setByte(input, chance) {
    if (input.length > 0) input[chance.below(input.length)] = chance.below(256);
    return input;
  },
  function setNumber(input, chance) {
    const bytes = chance.pick([1, 2, 4, 4, 8] as const);
    const at = field(input, chance, bytes);
    if (at === undefined) return input;
    const view = viewOf(input);
    const number = chance.once(4)
      ? BigInt(input.length + chance.below(5) - 2)
      : chance.pick(numbers);
    if (bytes === 8) view.setBigUint64(at, BigInt.asUintN(64, number), true);
    else if (bytes === 4) view.setUint32(at, Number(BigInt.asUintN(32, number)), true);
    else if (bytes === 2) view.setUint16(at, Number(BigInt.asUintN(16, number)), true);
    else input[at] = Number(BigInt.asUintN(8, number));
    return input;
  },
  function addToNumber(input, chance) {
    const at = field(input, chance, 4);
    if (at === undefined) return input;
    const view = viewOf(input);
    view.setUint32(at, view.getUint32(at, true) + chance.below(9) - 4, true);
    return input;
  },
  function setDouble(input, chance) {
    const at = field(input, chance, 8);
    if (at !== undefined) viewOf(input).setFloat64(at, chance.pick(doubles), true);
    return input;
  },
  function cut(input, chance) {
    return input.subarray(0, chance.below(input.length + 1));
  },
  function remove(input, chance) {
    const { from, to } = part(input, chance);
    return concat(input.subarray(0, from), input.subarray(to));
  },
  function repeat(input, chance) {
    const { from, to } = part(input, chance);
    return concat(input.subarray(0, to), input.subarray(from));
  },
  function insert(input, chance) {
    const at = chance.below(input.length + 1);
    const filled = new Uint8Array(1 + chance.below(chance.once(8) ? 5000 : 33));
    filled.fill(chance.pick([0, 0xff, 0x41, chance.below(256)]));
    return concat(input.subarray(0, at), filled, input.subarray(at));
  },
  function move(input, chance) {
    const { from, to } = part(input, chance);
    const at = chance.below(input.length + 1);
    input.copyWithin(at, from, to);
    return input;
  },
  function splice(input, chance, other) {
    const at = chance.below(input.length + 1);
    const from = chance.once(2) ? Math.min(at, other.length) : chance.below(other.length + 1);
    return concat(input.subarray(0, at), other.subarray(from));
  },
];

/** `input` is used up. */
export function mutateBytes(input: Uint8Array, chance: Chance, other: Uint8Array): Uint8Array {
  let changed = input;
  do changed = chance.pick(changes)(changed, chance, other);
  while (chance.once(3));
  return changed;
}
