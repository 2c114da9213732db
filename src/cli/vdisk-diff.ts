/** `wharf vdisk diff`: extents that differ between two snapshots of a vDisk, one line each. */

import { formatSize } from '../daemon/units.ts';
import type { Difference } from '../volume/map-diff.ts';
import { findAdmin, insideVpool, splitSnapshot } from './client.ts';
import { exitCode } from './exit-code.ts';
import { fail } from './image-place.ts';
import type { GlobalOptions } from './reports.ts';
import type { SnapshotDiff } from './snapshot-diff.ts';
import { openDiff } from './snapshot-diff.ts';

const printedAtOnce = 64 * 1024;
const numberWidth = 14;

type Extent = Pick<Difference, 'offset' | 'length' | 'what'>;

/** There may be millions of them: none is kept. */
export async function diffVdisk(from: string, to: string, options: GlobalOptions): Promise<void> {
  const [earlier, later] = [splitSnapshot(from), splitSnapshot(to)];
  if (earlier.name === undefined)
    fail(`${from}: what changed since when? Give it as PATH@SNAPSHOT`, exitCode.usage);
  if (insideVpool(earlier.path) !== insideVpool(later.path))
    fail(`${earlier.path} and ${later.path} are two vDisks: diff compares one`, exitCode.usage);
  const admin = findAdmin(options.admin, earlier.path);
  await using diff = await openDiff(admin, earlier.path, earlier.name, later.name);
  const isJson = options.json === true;
  const sums = { extents: 0, dataBytes: 0, zeroesBytes: 0 };
  const output = new Output();
  if (!isJson) await output.put(row('OFFSET', 'LENGTH', 'WHAT'));
  for await (const { offset, length, what } of extentsOf(diff.pieces)) {
    sums.extents += 1;
    sums[what === 'data' ? 'dataBytes' : 'zeroesBytes'] += length;
    await output.put(isJson ? json({ offset, length, what }) : row(offset, length, what));
  }
  const sizes = { sizeBeforeBytes: diff.from.sizeBytes, sizeBytes: diff.to.sizeBytes };
  await output.put(isJson ? json({ ...sums, ...sizes }) : describeSums(sums, diff));
  await output.end();
}

const json = (value: object) => `${JSON.stringify(value)}\n`;
const row = (offset: number | string, length: number | string, what: string) =>
  `${String(offset).padStart(numberWidth)}  ${String(length).padStart(numberWidth)}  ${what}\n`;

function describeSums(
  sums: { readonly extents: number; readonly dataBytes: number; readonly zeroesBytes: number },
  { from, to }: SnapshotDiff,
): string {
  const { extents, dataBytes, zeroesBytes } = sums;
  const amounts = `${formatSize(dataBytes)} of data, ${formatSize(zeroesBytes)} of zeroes`;
  const resized = `; the size was ${from.sizeBytes} bytes, and is ${to.sizeBytes}`;
  return `${extents} extents: ${amounts}${from.sizeBytes === to.sizeBytes ? '' : resized}\n`;
}

/** Neighbours of a kind as one. */
async function* extentsOf(pieces: SnapshotDiff['pieces']): AsyncGenerator<Extent> {
  let last: Extent | undefined;
  for await (const piece of pieces) {
    if ('doneBytes' in piece) continue;
    const { offset, length, what } = piece;
    if (last?.what === what && last.offset + last.length === offset)
      last = { ...last, length: last.length + length };
    else {
      if (last) yield last;
      last = { offset, length, what };
    }
  }
  if (last) yield last;
}

/** As fast as it is read. */
class Output {
  #text = '';

  async put(line: string): Promise<void> {
    this.#text += line;
    if (this.#text.length >= printedAtOnce) await this.end();
  }

  async end(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    await new Promise<void>((resolve, reject) => {
      process.stdout.once('error', reject);
      process.stdout.write(text, (error) => {
        process.stdout.off('error', reject);
        if (error) reject(error);
        else resolve();
      });
    });
  }
}
