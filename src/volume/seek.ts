/** lseek(2) SEEK_DATA and SEEK_HOLE over the block map, in steps of blocks. */

import type { Eventually } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import { placeWords } from '../format/place.ts';
import type { BlockMap } from './block-map.ts';

const { blockBytes } = limits;
/** Blocks looked at before other work gets its turn. */
const blocksPerTurn = 8192;

export interface Seek {
  readonly offset: number;
  readonly what: 'data' | 'hole';
  /** Size of the volume, bytes. */
  readonly size: number;
}

export function seekInMap(
  map: BlockMap,
  yieldTurn: () => Promise<void>,
  { offset, what, size }: Seek,
): Eventually<number | undefined> {
  if (offset >= size) return undefined;
  const place = new Uint32Array(placeWords);
  const end = Math.ceil(size / blockBytes);
  const step = (from: number): Eventually<number | undefined> => {
    let block = from;
    for (let looked = 0; block < end; looked += 1) {
      if (looked === blocksPerTurn) return yieldTurn().then(() => step(block));
      const kind = map.find(block, place);
      if (kind instanceof Promise) {
        // An unreadable page may stand for data: it is never called a hole.
        const next = block;
        if (what === 'data')
          return kind.then(
            () => step(next),
            () => Math.max(offset, next * blockBytes),
          );
        return kind.then(
          () => step(next),
          () => step(next + 1),
        );
      }
      if (kind === what) return Math.max(offset, block * blockBytes);
      block = kind === 'hole' ? map.skipHole(block) : block + 1;
    }
    return what === 'hole' ? size : undefined;
  };
  return step(Math.floor(offset / blockBytes));
}
