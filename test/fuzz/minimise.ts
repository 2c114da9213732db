/** The shortest input, with the most zeroes, of which a decoder still makes something wrong. */

import { judge } from './judge.ts';
import type { Finding, Target } from './target.ts';

const attemptsMax = 3000;

export async function minimise(target: Target, found: Finding): Promise<Finding> {
  let best = found;
  let attempts = 0;
  const isWrong = async (candidate: Uint8Array): Promise<boolean> => {
    attempts += 1;
    target.repair?.(candidate);
    try {
      await judge(target, candidate);
      return false;
    } catch (error) {
      best = { input: candidate, error };
      return true;
    }
  };
  for (let length = best.input.length >> 1; length >= 1; length >>= 1)
    for (let from = 0; from < best.input.length && attempts < attemptsMax; ) {
      const { input } = best;
      const without = Buffer.concat([input.subarray(0, from), input.subarray(from + length)]);
      if (!(await isWrong(new Uint8Array(without)))) from += length;
    }
  const none = target.kind === 'bytes' ? 0 : 0x20;
  for (let at = 0; at < best.input.length && attempts < attemptsMax; at += 1) {
    if (best.input[at] === none) continue;
    const plain = best.input.slice();
    plain[at] = none;
    await isWrong(plain);
  }
  return best;
}
