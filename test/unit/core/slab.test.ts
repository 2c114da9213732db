import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Slab } from '../../../src/core/slab.ts';

test('pieces of a slab are zeroes and do not meet', () => {
  const slab = new Slab();
  const sizes = [4096, 1, 0, 16_384, 100_000, 3000, 16_385];
  const pieces = Array.from({ length: 70 }, (_, index) => {
    const piece = slab.take(sizes[index % sizes.length] as number);
    assert.equal(piece.length, sizes[index % sizes.length]);
    assert.ok(piece.every((byte) => byte === 0));
    return piece.fill(index + 1);
  });
  pieces.forEach((piece, index) => assert.ok(piece.every((byte) => byte === index + 1)));
});

test('small pieces of a slab share a block', () => {
  const slab = new Slab();
  const blocks = new Set(Array.from({ length: 160 }, () => slab.take(4096).buffer));
  assert.equal(blocks.size, 10);
  assert.equal(slab.take(100_000).buffer.byteLength, 100_000);
});
