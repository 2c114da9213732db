/**
 * A program that uses one file of a mount past the page cache, as its parent orders (see
 * mount-user.ts): the first argument is the file. A process of its own, with threads of its own, so
 * that requests that hang make nobody else wait.
 */

import * as fs from 'node:fs/promises';
import type { Done, Order } from './mount-user.ts';

const directFlag = 0o40000;
const file = await fs.open(process.argv[2] ?? '', fs.constants.O_RDWR | directFlag);

async function carryOut({ what, offset, bytes }: Order): Promise<Uint8Array | undefined> {
  if (what === 'flush') await file.sync();
  else if (what === 'write') await file.write(bytes, 0, bytes.length, offset);
  else return bytes.subarray(0, (await file.read(bytes, 0, bytes.length, offset)).bytesRead);
  return undefined;
}

process.on('message', (order: Order) => {
  const tell = (done: Done) => process.send?.(done);
  const now = () => Number(process.hrtime.bigint()) / 1e6;
  carryOut(order).then(
    (bytes) => tell({ number: order.number, atMs: now(), bytes }),
    (error: NodeJS.ErrnoException) =>
      tell({ number: order.number, atMs: now(), failure: String(error.code) }),
  );
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
