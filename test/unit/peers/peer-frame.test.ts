import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { objectId } from '../../../src/core/units.ts';
import type { Frame } from '../../../src/format/peer-frame.ts';
import {
  decodeAnswerHead,
  decodeRequestHead,
  encodeAnswerHead,
  encodeRequestHead,
} from '../../../src/format/peer-message.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { FrameReader } from '../../../src/platform/peers/frame-reader.ts';
import { FrameWriter } from '../../../src/platform/peers/frame-writer.ts';
import { seededRandom } from '../../../src/platform/random.ts';

const checksum = tableChecksum();

function bytesOf(...frames: readonly Frame[]): Buffer {
  const writer = new FrameWriter(checksum);
  for (const frame of frames) writer.add(frame);
  return Buffer.concat(writer.take());
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
    const bytes = bytesOf(...sent);
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

describe('frames that are sent together', () => {
  const small = (number: number): Frame => ({
    ...{ type: 'answer', kind: 1, number, head: Buffer.from('head') },
    payload: Buffer.alloc(4096, number),
  });
  const large: Frame = { ...small(0), payload: Buffer.alloc(100_000, 'l') };

  test('lie one behind another; a large payload goes as it is', () => {
    const writer = new FrameWriter(checksum);
    for (const one of [small(1), small(2), large, small(3)]) writer.add(one);
    const sent = [small(1), small(2), large, small(3)].map((one) => bytesOf(one).length);
    assert.equal(
      writer.bytes,
      sent.reduce((sum, bytes) => sum + bytes, 0),
    );
    const parts = writer.take();
    assert.equal(parts.length, 3);
    assert.equal(parts[1], large.payload);
    assert.equal(writer.bytes, 0);
    assert.deepEqual(writer.take(), []);
    const found = framesIn(Buffer.concat(parts));
    assert.deepEqual(
      found.map(({ number, payload }) => [number, payload.length, payload[0]]),
      [
        [1, 4096, 1],
        [2, 4096, 2],
        [0, 100_000, 'l'.charCodeAt(0)],
        [3, 4096, 3],
      ],
    );
  });

  test('stay as they are until their memory may be used again', () => {
    const writer = new FrameWriter(checksum);
    writer.add(small(1));
    const [first] = writer.take() as [Uint8Array];
    const asItWas = Buffer.from(first);
    // More than the memory holds.
    for (let number = 2; number < 200; number += 1) writer.add(small(number));
    const later = Buffer.concat(writer.take());
    assert.ok(asItWas.equals(first));
    assert.deepEqual(
      framesIn(later).map(({ number, payload }) => [number, payload[0]]),
      Array.from({ length: 198 }, (_, index) => [index + 2, index + 2]),
    );
    writer.reuse();
    writer.add(small(1));
    const [again] = writer.take() as [Uint8Array];
    assert.ok(asItWas.equals(again));
    writer.reuse();
    writer.add(small(2));
    assert.equal((writer.take()[0] as Uint8Array).buffer, again.buffer);
    assert.ok(!asItWas.equals(again));
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
