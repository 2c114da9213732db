import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import type { Piece } from '../../../src/cli/sparse-copy.ts';
import {
  dataRuns,
  piecesOfFile,
  piecesOfStream,
  writeInOrder,
  writeSparse,
} from '../../../src/cli/sparse-copy.ts';
import { KiB, MiB } from '../../../src/core/units.ts';
import { dataExtents } from '../../../src/platform/extents.ts';

const block = 4 * KiB;

/** With pieces' bytes as they were when they came. */
async function copied(pieces: AsyncIterable<Piece>): Promise<Piece[]> {
  const all: Piece[] = [];
  for await (const { offset, bytes } of pieces) all.push({ offset, bytes: Buffer.from(bytes) });
  return all;
}

describe('a sparse copy', () => {
  let folder = '';
  before(async () => {
    folder = await fs.mkdtemp(join(tmpdir(), 'wharf-copy-'));
  });
  after(() => fs.rm(folder, { recursive: true }));

  test('finds what is not zero, in whole blocks', () => {
    const bytes = Buffer.alloc(5 * block + 10);
    assert.deepEqual([...dataRuns(bytes)], []);
    bytes[block] = 1;
    bytes[3 * block - 1] = 1;
    assert.deepEqual([...dataRuns(bytes)], [{ offset: block, end: 3 * block }]);
    bytes[bytes.length - 1] = 1;
    assert.deepEqual([...dataRuns(bytes)].at(-1), { offset: 5 * block, end: bytes.length });
    assert.deepEqual([...dataRuns(Buffer.alloc(0))], []);
  });

  test('asks the file where data is, and takes all for data where it does not say', () => {
    const sizeBytes = 100;
    const holes = [
      { offset: 10, end: 20 },
      { offset: 50, end: 120 },
    ];
    const seek = (_fd: number, offset: number, hole: boolean) => {
      const at = holes.find(({ end }) => end > offset);
      if (!at) return -6;
      if (!hole) return Math.max(at.offset, offset);
      return at.offset > offset ? offset : at.end;
    };
    assert.deepEqual(
      [...dataExtents({ seek }, 0, sizeBytes)],
      [
        { offset: 10, end: 20 },
        { offset: 50, end: 100 },
      ],
    );
    assert.deepEqual([...dataExtents({ seek }, 0, 50)], [{ offset: 10, end: 20 }]);
    assert.deepEqual([...dataExtents({ seek: () => -6 }, 0, sizeBytes)], []);
    const all = [{ offset: 0, end: sizeBytes }];
    assert.deepEqual([...dataExtents({ seek: () => -22 }, 0, sizeBytes)], all);
    assert.deepEqual([...dataExtents(undefined, 0, sizeBytes)], all);
    assert.deepEqual([...dataExtents(undefined, 0, 0)], []);
  });

  test('makes pieces of chunks of whatever size', async () => {
    const content = Buffer.alloc(2 * MiB + 5, 'abcdefg');
    for (const step of [1000, 64 * KiB, MiB, 3 * MiB]) {
      const chunks: Buffer[] = [];
      for (let at = 0; at < content.length; at += step)
        chunks.push(content.subarray(at, at + step));
      const pieces = await copied(piecesOfStream(Readable.from(chunks)));
      assert.deepEqual(
        pieces.map(({ offset, bytes }) => [offset, bytes.length]),
        [
          [0, MiB],
          [MiB, MiB],
          [2 * MiB, 5],
        ],
      );
      assert.ok(Buffer.concat(pieces.map(({ bytes }) => bytes)).equals(content));
    }
  });

  test('writes what is data alone, and all of it in order into a stream', async () => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    const content = Buffer.alloc(5 * MiB + 7);
    for (const at of [0, MiB + block, 3 * MiB - 1, content.length - 1]) content[at] = at % 255 || 1;
    await fs.writeFile(from, content);
    await using source = await fs.open(from);
    await using target = await fs.open(to, 'w');
    let written = 0;
    const end = await writeSparse(target, piecesOfFile(source, content.length), (_end, bytes) => {
      written += bytes;
    });
    assert.deepEqual([end, written], [content.length, 3 * block + 7]);
    assert.ok((await fs.readFile(to)).equals(content));
    const chunks: Buffer[] = [];
    const stream = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        chunks.push(Buffer.from(chunk));
        done();
      },
    });
    const second = { offset: MiB + block, bytes: Buffer.from('data') };
    await writeInOrder(stream, 2 * MiB, Readable.from([second]), () => {});
    const all = Buffer.concat(chunks);
    assert.equal(all.length, 2 * MiB);
    assert.equal(all.indexOf('data'), MiB + block);
    assert.equal(all.filter((byte) => byte !== 0).length, 4);
  });

  test('fails when what it reads ends early, or what it writes to does', async () => {
    const path = join(folder, 'short');
    await fs.writeFile(path, Buffer.alloc(MiB, 1));
    await using source = await fs.open(path);
    await assert.rejects(copied(piecesOfFile(source, 3 * MiB)), /has become shorter/);
    // Not open for writing.
    await assert.rejects(
      writeSparse(source, piecesOfFile(source, MiB), () => {}),
      /EBADF/,
    );
    const full = new Writable({ write: (_chunk, _encoding, done) => done(new Error('full')) });
    await assert.rejects(
      writeInOrder(full, MiB, piecesOfFile(source, MiB), () => {}),
      /full/,
    );
  });
});
