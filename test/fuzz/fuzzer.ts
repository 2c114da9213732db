/** Gives a decoder inputs that are made of its corpus, from a seed. */

import { Chance } from './chance.ts';
import { judge } from './judge.ts';
import { minimise } from './minimise.ts';
import { mutateBytes } from './mutate-bytes.ts';
import { mutateJson, mutateLines } from './mutate-text.ts';
import type { Finding, Target } from './target.ts';

const inputBytesMax = 16 * 1024;

export interface Round {
  /** Undefined: all were as they should be. */
  readonly finding: Finding | undefined;
  readonly inputs: number;
  /** Of those, how many the decoder took. */
  readonly taken: number;
}

export interface FuzzOptions {
  readonly seed: number;
  /** After so many inputs. */
  readonly isOver: (inputs: number) => boolean;
}

export async function fuzz(
  target: Target,
  corpus: readonly Uint8Array[],
  { seed, isOver }: FuzzOptions,
): Promise<Round> {
  const chance = new Chance(seed, target.name);
  const counts = { inputs: 0, taken: 0 };
  const give = async (input: Uint8Array): Promise<Finding | undefined> => {
    counts.inputs += 1;
    try {
      if ((await judge(target, input)) === 'taken') counts.taken += 1;
      return undefined;
    } catch (error) {
      return minimise(target, { input, error });
    }
  };
  for (const input of corpus) {
    const finding = await give(input);
    if (finding) return { finding, ...counts };
  }
  while (!isOver(counts.inputs)) {
    const input = mutate(target, chance, corpus);
    const finding = await give(input);
    if (finding) return { finding, ...counts };
  }
  return { finding: undefined, ...counts };
}

function mutate(target: Target, chance: Chance, pool: readonly Uint8Array[]): Uint8Array {
  const [one, other] = [chance.pick(pool), chance.pick(pool)];
  const asBytes = () => mutateBytes(one.slice(), chance, other);
  const asText = (change: (text: string, chance: Chance, other: string) => string | undefined) => {
    const changed = change(Buffer.from(one).toString(), chance, Buffer.from(other).toString());
    return changed === undefined ? asBytes() : new Uint8Array(Buffer.from(changed));
  };
  const isText = target.kind !== 'bytes' && !chance.once(4);
  const mutated = isText ? asText(target.kind === 'json' ? mutateJson : mutateLines) : asBytes();
  const input = mutated.slice(0, inputBytesMax);
  if (!chance.once(8)) target.repair?.(input);
  return input;
}
