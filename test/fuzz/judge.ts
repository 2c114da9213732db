/**
 * What a decoder may make of bytes: it takes them, or refuses them with a code that it is known for,
 * in time and memory that grow with the input, and writes to none of them.
 */

import assert from 'node:assert/strict';
import { getHeapStatistics } from 'node:v8';
import { isStorageError } from '../../src/core/errors.ts';
import { isPending } from '../../src/core/eventually.ts';
import type { Target } from './target.ts';

/** Of CPU, for one input: a hundred times what the slowest takes. */
const defaultCpuMsMax = 500;
const roomBytes = 1 << 20;
/** A byte of input may become an object. */
const roomPerByte = 200;
/** An input stands in the middle of other bytes, as it does in a window of a file. */
const before = 13;
const behind = 24;

const memoryBytes = () => {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
};

export type Verdict = 'taken' | 'refused';

/** Throws what the decoder did wrong. */
export async function judge(target: Target, input: Uint8Array): Promise<Verdict> {
  const allowed = (target.roomBytes ?? 0) + roomBytes + input.length * roomPerByte;
  for (let attempt = 1; ; attempt += 1) {
    const { verdict, takenBytes } = await run(target, input);
    if (takenBytes <= allowed) return verdict;
    // The runtime allocates for itself as well, now and then.
    assert.ok(attempt < 3, `${takenBytes} bytes are taken for ${input.length} of input`);
  }
}

async function run(target: Target, input: Uint8Array) {
  const memory = new Uint8Array(before + input.length + behind).fill(0xa5);
  memory.set(input, before);
  const given = memory.subarray(before, before + input.length);
  const cpu = process.threadCpuUsage();
  const startBytes = memoryBytes();
  const verdict = await decode(target, given);
  const takenBytes = memoryBytes() - startBytes;
  const { user, system } = process.threadCpuUsage(cpu);
  const cpuMs = (user + system) / 1000;
  const cpuMsMax = target.cpuMsMax ?? defaultCpuMsMax;
  assert.ok(cpuMs < cpuMsMax, `it takes ${Math.round(cpuMs)} ms of CPU`);
  assert.ok(Buffer.compare(input, given) === 0, 'it writes to its input');
  return { verdict, takenBytes };
}

async function decode({ decode: decoder, refuses }: Target, input: Uint8Array): Promise<Verdict> {
  try {
    const outcome = decoder(input);
    // An await for each input would double what it costs.
    const isTaken = isPending(outcome) ? await outcome : outcome;
    return isTaken ? 'taken' : 'refused';
  } catch (error) {
    if (isStorageError(error) && refuses.includes(error.code)) return 'refused';
    throw error;
  }
}
