/**
 * A program that uses files of one mount as its parent orders (see user.ts): a process of its own
 * with many threads, so that calls that hang make nobody else wait.
 */

import * as fs from 'node:fs/promises';
import type { Answer, Order } from './user.ts';

const directFlag = 0o40000;
const disks = new Map<string, Promise<fs.FileHandle>>();

/** Opened once, past the page cache. */
function disk(path: string): Promise<fs.FileHandle> {
  const found = disks.get(path) ?? fs.open(path, fs.constants.O_RDWR | directFlag);
  disks.set(path, found);
  found.catch(() => disks.delete(path));
  return found;
}

async function carryOut(order: Order): Promise<Uint8Array | undefined> {
  const { path } = order;
  switch (order.what) {
    case 'read': {
      const into = Buffer.alloc(order.length);
      const { bytesRead } = await (await disk(path)).read(into, 0, order.length, order.offset);
      return into.subarray(0, bytesRead);
    }
    case 'write': {
      const { bytes, offset } = order;
      const { bytesWritten } = await (await disk(path)).write(bytes, 0, bytes.length, offset);
      if (bytesWritten !== bytes.length) throw new Error(`${bytesWritten} bytes were written`);
      return undefined;
    }
    case 'flush':
      await (await disk(path)).sync();
      return undefined;
    case 'replace':
      await replace(order);
      return undefined;
    case 'get':
      return fs.readFile(path);
  }
}

/** As editors and hypervisors do: a new file takes the place of the old one. */
async function replace(order: Order & { what: 'replace' }): Promise<void> {
  const file = await fs.open(order.by, 'w');
  try {
    await file.write(order.bytes, 0, order.bytes.length, 0);
    if (order.how === 'flushed') await file.sync();
  } finally {
    await file.close();
  }
  await fs.rename(order.by, order.path);
}

process.on('message', (order: Order) => {
  const { number } = order;
  const tell = (answer: Answer) => process.send?.(answer);
  carryOut(order).then(
    (bytes) => tell({ number, bytes }),
    (error: NodeJS.ErrnoException) => tell({ number, failure: error.code ?? String(error) }),
  );
});
process.on('disconnect', () => process.exit());
// Ctrl-C is its parent's to act upon.
process.on('SIGINT', () => {});
process.send?.('ready');
