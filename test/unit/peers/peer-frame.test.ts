import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { objectId } from '../../../src/core/units.ts';
import type { Frame } from '../../../src/format/peer-frame.ts';
import { encodeFrame } from '../../../src/format/peer-frame.ts';
import {
  decodeAnswerHead,
  decodeRequestHead,
  encodeAnswerHead,
  encodeRequestHead,
} from '../../../src/format/peer-message.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { FrameReader } from '../../../src/platform/peers/frame-reader.ts';
import { seededRandom } from '../../../src/platform/random.ts';

const checksum = tableChecksum();

function bytesOf(frame: Frame): Buffer {
  return Buffer.concat([encodeFrame(frame, checksum), frame.payload]);
}

function framesIn(bytes: Uint8Array, chunkBytes = bytes.length): Frame[] {
  const frames: Frame[] = [];
  const reader = new FrameReader(checksum, (frame) => frames.push(frame));
  for (let at = 0; at < bytes.length; at += chunkBytes)
    reader.take(bytes.subarray(at, at + chunkBytes));
  return frames;
}

const frame: Frame = {
  ...{ type: 'request', kind: 3, number: 0x0102_0304 },
  head: Buffer.from('head'),
  payload: Buffer.from('payload'),
};

describe('a frame', () => {
  test('has the bytes of version 1', () => {
    assert.equal(
      encodeFrame(frame, checksum).toString(),
      encodeFrame({ ...frame }, checksum).toString(),
    );
    const hex = bytesOf(frame).toString('hex');
    assert.match(hex, /^57504652010103000403020104000000070000/);
    assert.ok(hex.endsWith(Buffer.from('headpayload').toString('hex')));
  });

  test('comes back whole however it is cut into chunks', () => {
    const random = seededRandom(3);
    const sent = Array.from({ length: 20 }, (_, index) => ({
      ...{ type: 'answer' as const, kind: index, number: index },
      head: random.bytes(Math.floor(random.fraction() * 60)),
      payload: random.bytes(Math.floor(random.fraction() * 5000)),
    }));
    const bytes = Buffer.concat(sent.map(bytesOf));
    for (const chunkBytes of [1, 7, 32, 33, 4096, bytes.length]) {
      const found = framesIn(bytes, chunkBytes);
      assert.equal(found.length, sent.length);
      found.forEach(({ kind, head, payload }, index) => {
        assert.equal(kind, index);
        assert.ok(Buffer.from(head).equals((sent[index] as Frame).head));
        assert.ok(Buffer.from(payload).equals((sent[index] as Frame).payload));
      });
    }
  });

  test('is never believed with a bit flipped, nor taken for whole when it is cut', () => {
    const bytes = bytesOf(frame);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      let found: Frame[] = [];
      try {
        found = framesIn(flipped);
      } catch (error) {
        assert.ok(isStorageError(error, 'corrupt'));
      }
      assert.deepEqual(found, [], `bit ${bit}`);
    }
    for (let end = 0; end < bytes.length; end += 1)
      assert.deepEqual(framesIn(bytes.subarray(0, end)), []);
  });
});

describe('the head of a message', () => {
  const request = {
    ...{ id: objectId('0123456789abcdef0123456789abcdef'), session: 2 ** 40, generation: 3 },
    ...{ epoch: 4, offset: 2 ** 45, length: 4096 },
  };
  const answer = { sizeBytes: 2 ** 46, allocatedBytes: 5, result: -1, epoch: 6, isVolume: true };

  test('comes back as it was', () => {
    assert.deepEqual(decodeRequestHead(encodeRequestHead(request)), request);
    assert.deepEqual(decodeAnswerHead(encodeAnswerHead(answer)), answer);
  });

  test('of a wrong length, or with numbers beyond all bounds, is refused', () => {
    const invalid = (error: unknown) => isStorageError(error, 'invalid');
    for (let length = 0; length < 60; length += 1) {
      const bytes = new Uint8Array(length).fill(0xff);
      assert.throws(() => decodeRequestHead(bytes), invalid);
      assert.throws(() => decodeAnswerHead(bytes), invalid);
    }
  });
});
