/** What other hosts send, and strangers who reach the port of peers. */

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { isStorageError } from '../../../src/core/errors.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import {
  decodeCareAnswer,
  decodeCareRequest,
  encodeCare,
} from '../../../src/format/care-message.ts';
import { decodeLocks, encodeLocks, lockBytes } from '../../../src/format/lock-message.ts';
import type { Frame } from '../../../src/format/peer-frame.ts';
import {
  decodeErrorHead,
  encodeErrorHead,
  encodeFrame,
  frameBytes,
  frameHeadBytesMax,
  frameMemory,
} from '../../../src/format/peer-frame.ts';
import {
  decodeAnswerHead,
  decodeRequestHead,
  encodeAnswerHead,
  encodeRequestHead,
} from '../../../src/format/peer-message.ts';
import { FrameReader } from '../../../src/platform/peers/frame-reader.ts';
import {
  CalledHandshake,
  CallerHandshake,
  lineBytesMax,
  refusal,
} from '../../../src/platform/peers/handshake.ts';
import { Lines } from '../../../src/platform/peers/lines.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import type { LockRequest } from '../../../src/ports/object-locks.ts';
import { lastByte } from '../../../src/ports/object-locks.ts';
import { peerPayloadBytesMax } from '../../../src/ports/peers.ts';
import type { Target } from '../target.ts';
import { assertSame, checksum, viewOf } from '../target.ts';

const id = objectId('0123456789abcdef'.repeat(2));
const none = new Uint8Array(0);

function encode({ head, payload, ...start }: Frame): Uint8Array {
  const memory = frameMemory(new Uint8Array(frameBytes + head.length + payload.length));
  memory.bytes.set(payload, encodeFrame({ ...start, head, payload }, memory, 0, checksum));
  return memory.bytes;
}

const requestHead = encodeRequestHead({
  ...{ id, session: 900, generation: 3, epoch: 7, offset: 2 ** 40, length: 4096 },
});
const request: Frame = {
  ...{ type: 'request', kind: 3, number: 77, head: requestHead, payload: new Uint8Array(64) },
};
const ping: Frame = { type: 'ping', kind: 0, number: 78, head: none, payload: none };
const refused: Frame = {
  ...{ ...ping, type: 'error', kind: 3, head: encodeErrorHead('no_space', 'the disk is full') },
};

/** Of each frame, as far as they are whole. */
function repairFrames(input: Uint8Array): void {
  const view = viewOf(input);
  for (let at = 0; at + frameBytes <= input.length; ) {
    const payloadAt = at + frameBytes + view.getUint32(at + 12, true);
    const end = payloadAt + view.getUint32(at + 16, true);
    if (payloadAt > input.length) return;
    const crc = end === payloadAt ? 0 : checksum.crc32c(input.subarray(payloadAt, end));
    view.setUint32(at + 20, crc, true);
    const start = checksum.crc32c(input.subarray(at, at + 28));
    view.setUint32(at + 28, checksum.crc32c(input.subarray(at + 32, payloadAt), start), true);
    at = end;
  }
}

/** What a connection gives when the bytes come in chunks: frames, and whether it is believed. */
function readFrames(input: Uint8Array, chunkBytes: number) {
  const frames: Uint8Array[] = [];
  const reader = new FrameReader(checksum, (frame) => frames.push(encode(frame)));
  try {
    for (let at = 0; at < input.length; at += chunkBytes)
      reader.take(input.subarray(at, at + chunkBytes));
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    return { frames, isRefused: true };
  }
  return { frames, isRefused: false };
}

const frame: Target = {
  ...{ name: 'peer-frame', kind: 'bytes', refuses: [] },
  // One in pieces gets memory for its payload, which is bounded.
  roomBytes: 2 * peerPayloadBytesMax,
  samples: {
    request: encode(request),
    ping: encode(ping),
    error: encode(refused),
    longest: encode({ ...refused, head: new Uint8Array(frameHeadBytesMax) }),
    several: new Uint8Array(Buffer.concat([request, ping, refused].map(encode))),
  },
  repair: repairFrames,
  decode(input) {
    const whole = readFrames(input, Math.max(1, input.length));
    const read = Buffer.concat(whole.frames);
    assert.ok(read.equals(input.subarray(0, read.length)), 'frames are what came');
    assert.deepEqual(readFrames(input, 7), whole);
    return whole.frames.length > 0;
  },
};

const requests: Target = {
  ...{ name: 'peer-request', kind: 'bytes', refuses: ['invalid'] },
  samples: { write: requestHead },
  decode(input) {
    assertSame(encodeRequestHead(decodeRequestHead(input)), input);
    return true;
  },
};

const answer = { sizeBytes: 2 ** 40, allocatedBytes: 4096, epoch: 7 };
const answers: Target = {
  ...{ name: 'peer-answer', kind: 'bytes', refuses: ['invalid'] },
  samples: {
    volume: encodeAnswerHead({ ...answer, result: 4096, isVolume: true }),
    file: encodeAnswerHead({ ...answer, result: -1, isVolume: false }),
  },
  decode(input) {
    assertSame(encodeAnswerHead(decodeAnswerHead(input)), input);
    return true;
  },
};

const errorHead: Target = {
  ...{ name: 'peer-error', kind: 'bytes', refuses: [] },
  samples: { error: new Uint8Array(refused.head) },
  decode(input) {
    const { code, message } = decodeErrorHead(input);
    if (Buffer.byteLength(code + message) < frameHeadBytesMax)
      assert.deepEqual(decodeErrorHead(encodeErrorHead(code, message)), { code, message });
    return true;
  },
};

const lock: LockRequest = {
  ...{ type: 'write', kind: 'posix', pid: 77, owner: 2n ** 63n, start: 0n, end: lastByte },
};
const locks: Target = {
  ...{ name: 'locks', kind: 'bytes', refuses: ['invalid'] },
  samples: {
    none,
    one: new Uint8Array(encodeLocks([lock])),
    several: new Uint8Array(encodeLocks([lock, { ...lock, type: 'none', kind: 'flock', end: 5n }])),
  },
  decode(input) {
    const found = decodeLocks(input);
    assert.equal(found.length * lockBytes, input.length);
    assert.ok(found.every(({ start, end }) => start <= end && end <= lastByte));
    assertSame(encodeLocks(found), input);
    return true;
  },
};

type CareRequest = ReturnType<typeof decodeCareRequest>;
type CareAnswer = ReturnType<typeof decodeCareAnswer>;

/** Whoever gets a message goes by its type: what is there is what the type says. */
function care<T extends CareRequest | CareAnswer>(
  name: string,
  decode: (payload: Uint8Array) => T,
  shape: z.ZodType,
  samples: Readonly<Record<string, T>>,
): Target {
  return {
    ...{ name, kind: 'json', refuses: ['invalid'] },
    samples: Object.fromEntries(
      Object.entries(samples).map(([what, message]) => [what, new Uint8Array(encodeCare(message))]),
    ),
    decode(input) {
      const found = decode(input);
      assert.ok(shape.safeParse(found).success, `it is ${JSON.stringify(found)}`);
      const sent = encodeCare(found);
      assertSame(encodeCare(decode(sent)), sent);
      return true;
    },
  };
}

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const counts = (...names: readonly string[]) =>
  z.object(Object.fromEntries(names.map((name) => [name, count])));
const answerShape = z
  .object({
    flattened: counts('doneBytes', 'copiedBytes').extend({ isDone: z.boolean() }),
    isKept: z.boolean(),
    held: z.enum(['volume', 'file']),
    content: counts('sizeBytes', 'allocatedBytes'),
    space: counts('uniqueBytes', 'sharedBytes'),
    compaction: counts(
      ...['segments', 'storedBytes', 'liveBytes', 'victims', 'victimBytes'],
      ...['rewrittenBytes', 'reclaimedBytes'],
    ),
  })
  .partial();

const requestOf = <T extends z.ZodRawShape>(names: string, fields: T) =>
  z.object({ do: z.enum(names.split(' ')), ...fields });
const text = z.string();
const time = text.regex(/^\d+$/);
const requestShape = z.union([
  requestOf('snapshot settle', { name: text, createdNs: time }),
  requestOf('collect flatten space recount', {}),
  requestOf('compact', { how: z.enum(['plan', 'run']) }),
  requestOf('freeze', { createdNs: time }),
  requestOf('rollBack', { name: text, before: text.optional(), createdNs: time }),
  requestOf('hold', { token: text, name: text }),
  requestOf('mark', { token: text, name: text, createdNs: time, as: text.optional() }),
  requestOf('letGo', { token: text }),
  requestOf('copied', { as: text }),
]);

const createdNs = '1700000000000000000';
const careRequests = care('care-request', decodeCareRequest, requestShape, {
  snapshot: { do: 'snapshot', name: 'monday', createdNs },
  compact: { do: 'compact', how: 'plan' },
  flatten: { do: 'flatten' },
  rollback: { do: 'rollBack', name: 'monday', before: 'tuesday', createdNs },
  hold: { do: 'hold', token: 'abc', name: 'monday' },
  mark: { do: 'mark', token: 'abc', name: 'monday', createdNs, as: id },
  copied: { do: 'copied', as: id },
});
const careAnswers = care('care-answer', decodeCareAnswer, answerShape, {
  nothing: {},
  flattened: { flattened: { isDone: false, doneBytes: 5, copiedBytes: 4 } },
  kept: { isKept: true },
  held: { held: 'volume', content: { sizeBytes: 2 ** 40, allocatedBytes: 4096 } },
  space: { space: { uniqueBytes: 5, sharedBytes: 4 } },
  compaction: {
    compaction: {
      ...{ segments: 3, storedBytes: 100, liveBytes: 50, victims: 1, victimBytes: 30 },
      ...{ rewrittenBytes: 0, reclaimedBytes: 0 },
    },
  },
});

const key = new Uint8Array(32).fill(7);
const [host, caller] = [hostId('node-1'), hostId('node-2')];
const saying = (seed: number) => ({ random: seededRandom(seed), binding: '' });
const identityOf = (of: typeof host) => ({ host: of, instance: 'abc', vpool: 'vms', key });
const calledSide = () => new CalledHandshake(identityOf(host), saying(2));
const callerSide = () => new CallerHandshake(identityOf(caller), host, saying(1));

const { hello } = callerSide();
const challenge = calledSide().challenge(hello);
const proof = callerSide().prove(challenge);
const welcome = '{}';

/** Every line is given to both sides at each step. Only what was said is a proof. */
const handshake: Target = {
  ...{ name: 'handshake', kind: 'json', refuses: [] },
  samples: Object.fromEntries(
    Object.entries({ hello, challenge, proof, welcome, refusal: refusal('no') }).map(
      ([what, line]) => [what, new Uint8Array(Buffer.from(line))],
    ),
  ),
  decode(input) {
    const line = Buffer.from(input).toString();
    const called = calledSide();
    called.challenge(hello);
    const steps = [
      () => assert.ok(calledSide().challenge(line).length <= lineBytesMax),
      () => callerSide().welcome(line),
      () => {
        called.check(line);
        assert.equal((JSON.parse(line) as { mac: string }).mac, JSON.parse(proof).mac);
      },
      () => {
        callerSide().prove(line);
        const { mac, ...said } = JSON.parse(line) as Record<string, unknown>;
        assert.equal(JSON.stringify({ ...said, mac }), challenge);
      },
    ];
    return steps.filter(isTaken).length > 0;
  },
};

function isTaken(step: () => void): boolean {
  try {
    step();
    return true;
  } catch (error) {
    const isRefusal = ['invalid', 'not_permitted', 'unsupported'] as const;
    if (!isRefusal.some((code) => isStorageError(error, code))) throw error;
    return false;
  }
}

class FakeSocket extends EventEmitter {
  destroyed = false;
  #isPaused = false;
  pause = () => void (this.#isPaused = true);
  resume = () => void (this.#isPaused = false);
  isPaused = () => this.#isPaused;
}

/** Lines as they come in chunks, until there are no more or they are no lines of a handshake. */
async function readLines(input: Uint8Array, chunkBytes: number): Promise<readonly string[]> {
  const socket = new FakeSocket();
  const lines = new Lines(socket as unknown as Socket);
  const chunks: Buffer[] = [];
  for (let at = 0; at < input.length; at += chunkBytes)
    chunks.push(Buffer.from(input.subarray(at, at + chunkBytes)));
  const found: string[] = [];
  const read = (async () => {
    for (;;) found.push(await lines.next());
  })();
  for (const chunk of chunks) {
    socket.emit('data', chunk);
    await Promise.resolve();
  }
  socket.emit('close');
  await read.catch((error: unknown) => {
    const isEnd = error instanceof Error && error.message === 'the connection was closed';
    if (!isEnd && !isStorageError(error)) throw error;
  });
  return found;
}

const linesOf: Target = {
  ...{ name: 'handshake-lines', kind: 'text', refuses: [] },
  // It is read twice, and each byte may be a line.
  roomBytes: 16 << 20,
  samples: { conversation: new Uint8Array(Buffer.from(`${hello}\n${proof}\n${hello}\n`)) },
  async decode(input) {
    const found = await readLines(input, Math.max(1, input.length));
    const said = Buffer.from(input).toString().split('\n');
    assert.deepEqual(found, said.slice(0, found.length));
    assert.ok(found.every((line) => Buffer.byteLength(line) <= 3 * lineBytesMax));
    assert.deepEqual(await readLines(input, 100), found);
    return found.length > 0;
  },
};

export const peers: readonly Target[] = [
  ...[frame, requests, answers, errorHead, locks, careRequests, careAnswers, handshake, linesOf],
];
