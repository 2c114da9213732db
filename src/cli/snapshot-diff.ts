/** What differs between two snapshots of a vDisk, as a daemon says it, piece by piece. */

import type { DiffLine, DiffState } from '../frontend/admin/vdisk-diff.ts';
import type { Difference } from '../volume/map-diff.ts';
import { callForLines, insideVpool } from './client.ts';
import { fail } from './image-place.ts';

/** To be read to its end, or disposed of. */
export interface SnapshotDiff extends AsyncDisposable {
  /** Id of the volume. */
  readonly volume: string;
  readonly from: DiffState;
  readonly to: DiffState;
  /** Differences in ascending order, and between them how far it is. */
  readonly pieces: AsyncGenerator<Difference | { readonly doneBytes: number }>;
}

/** `to` undefined: as it is now. */
export async function openDiff(
  admin: string,
  path: string,
  from: string,
  to: string | undefined,
): Promise<SnapshotDiff> {
  const query = { path: insideVpool(path), since: from, ...(to !== undefined && { to }) };
  const lines = callForLines(admin, '/v1/vdisk/diff', query) as AsyncGenerator<DiffLine>;
  const { value: first } = await lines.next();
  if (!first || !('volume' in first)) return brokenOff();
  const close = async () => void (await lines.return(undefined));
  return { ...first, pieces: piecesOf(lines), [Symbol.asyncDispose]: close };
}

async function* piecesOf(lines: AsyncGenerator<DiffLine>): SnapshotDiff['pieces'] {
  for await (const line of lines) {
    if ('isDone' in line) return;
    if (!('volume' in line)) yield line;
  }
  brokenOff();
}

function brokenOff(): never {
  return fail('the daemon broke off in the middle of what differs');
}
