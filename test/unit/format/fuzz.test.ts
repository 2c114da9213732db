/**
 * Every decoder, on its corpus and on what a fixed seed makes of it; and the fuzzer itself, on
 * decoders that are wrong in the ways that it is there to find. `npm run fuzz` goes on for longer.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { readCorpus } from '../../fuzz/corpus.ts';
import { fuzz } from '../../fuzz/fuzzer.ts';
import { judge } from '../../fuzz/judge.ts';
import { describeFinding } from '../../fuzz/report.ts';
import type { Target } from '../../fuzz/target.ts';
import { checksum, sign, viewOf } from '../../fuzz/target.ts';
import { targets } from '../../fuzz/targets.ts';

const seed = 1;
const inputsMax = 2500;

describe('the decoder of', () => {
  for (const target of targets)
    test(target.name, async () => {
      const corpus = readCorpus(target);
      const { samples, testInputs = inputsMax } = target;
      for (const [what, bytes] of Object.entries(samples))
        assert.deepEqual(
          corpus.get(what),
          new Uint8Array(bytes),
          `${what}: the format has changed`,
        );
      const isOver = (inputs: number) => inputs >= testInputs;
      const { finding, inputs, taken } = await fuzz(target, [...corpus.values()], { seed, isOver });
      if (finding) assert.fail(describeFinding(target, seed, finding));
      assert.ok(inputs === testInputs && taken > inputs / 100, `${taken} of ${inputs} are taken`);
    });
});

/** Values of so many bytes behind their count, with a checksum at the end. */
function wrongDecoder(decode: (count: number, input: Uint8Array) => void): Target {
  const sample = new Uint8Array(32);
  viewOf(sample).setUint32(0, 3, true);
  sign(sample, 28);
  const bodyOf = (input: Uint8Array) => input.subarray(0, -4);
  return {
    ...{ name: 'toy', kind: 'bytes', refuses: ['corrupt'], samples: { sample } },
    cpuMsMax: 50,
    repair: (input) => sign(input, input.length - 4),
    decode(input) {
      const isSigned =
        input.length >= 8 &&
        viewOf(input).getUint32(input.length - 4, true) === checksum.crc32c(bodyOf(input));
      if (!isSigned) throw new StorageError('corrupt', 'wrong checksum');
      decode(viewOf(input).getUint32(0, true), input);
      return true;
    },
  };
}

const find = async (target: Target, inputs = 5000) => {
  const options = { seed, isOver: (made: number) => made >= inputs };
  return (await fuzz(target, Object.values(target.samples), options)).finding;
};

/** What was taken in memory is not seen where garbage is collected in the same moment. */
async function isConvicted(target: Target, input: Uint8Array): Promise<boolean> {
  for (let attempt = 0; attempt < 10; attempt += 1)
    try {
      await judge(target, input);
    } catch {
      return true;
    }
  return false;
}

describe('a decoder is convicted that', () => {
  const wrong: Record<string, (count: number, input: Uint8Array) => void> = {
    'reads beyond its input': (count, input) => void viewOf(input).getUint8(4 + count),
    'refuses in other words': (count) => {
      if (count > 100) throw new StorageError('invalid', 'too many');
    },
    'allocates what its input claims': (count) => void new Uint8Array(Math.min(count, 1 << 26)),
    'takes as long as its input claims': (count) => {
      const start = process.threadCpuUsage();
      while (count > 1 << 20 && process.threadCpuUsage(start).user < 60_000);
    },
    'writes to its input': (count, input) => {
      if (count === 0) input[0] = 1;
    },
  };
  for (const [what, decode] of Object.entries(wrong))
    test(what, async () => {
      const target = wrongDecoder(decode);
      const finding = await find(target);
      assert.ok(finding, 'it is found');
      assert.ok(finding.input.length <= 9, `${finding.input.length} bytes are left`);
      assert.ok(await isConvicted(target, finding.input));
      const report = describeFinding(target, seed, finding);
      const hex = Buffer.from(finding.input).toString('hex');
      assert.match(report, new RegExp(`--decoder toy --input '${hex}'`));
    });

  test('by the same input where the seed is the same', async () => {
    const target = wrongDecoder((count, input) => void viewOf(input).getUint8(4 + count));
    assert.deepEqual((await find(target))?.input, (await find(target))?.input);
  });

  test('not without its checksums made right', async () => {
    const known = wrongDecoder(() => {}).samples['sample'];
    const strict = wrongDecoder((_, input) => assert.deepEqual(new Uint8Array(input), known));
    const { repair: _repair, ...target } = strict;
    assert.ok(await find(strict));
    assert.equal(await find(target), undefined);
  });
});
