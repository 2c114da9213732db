/** Answers of the admin API that come line by line. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get } from 'node:http';
import { describe, test } from 'node:test';
import { callForLines } from '../../../src/cli/client.ts';
import { StorageError } from '../../../src/core/errors.ts';
import type { Lines } from '../../../src/frontend/admin/server.ts';
import { openAdminServer } from '../../../src/frontend/admin/server.ts';

async function served(lines: () => Lines) {
  const server = await openAdminServer(0, { 'GET /lines': async () => lines() });
  return { url: server.url, [Symbol.asyncDispose]: () => server.close() };
}

const all = (url: string) => Array.fromAsync(callForLines(url, '/lines', {}));

describe('lines', () => {
  test('come one by one, many at once or none', async () => {
    await using server = await served(async function* () {
      yield [{ text: 'with\nan end' }, { n: 1 }];
      for (let n = 2; n < 50_000; n += 1) yield [{ n }];
    });
    const found = await all(server.url);
    assert.equal(found.length, 50_000);
    assert.deepEqual(found.slice(0, 2), [{ text: 'with\nan end' }, { n: 1 }]);
    assert.deepEqual(found.at(-1), { n: 49_999 });
    await using empty = await served(async function* () {});
    assert.deepEqual(await all(empty.url), []);
  });

  test('are refused as a whole where the first can not be made', async () => {
    await using server = await served(async function* () {
      yield await Promise.reject<object[]>(new StorageError('not_found', 'no such thing'));
    });
    assert.equal((await fetch(`${server.url}/lines`)).status, 404);
    await assert.rejects(all(server.url), /no such thing/);
  });

  test('that end in the middle say why', async () => {
    await using server = await served(async function* () {
      yield [{ n: 1 }];
      throw new StorageError('corrupt', 'a page is gone');
    });
    const found: object[] = [];
    await assert.rejects(async () => {
      for await (const line of callForLines(server.url, '/lines', {})) found.push(line);
    }, /a page is gone/);
    assert.deepEqual(found, [{ n: 1 }]);
  });

  test('are not made for somebody who has gone, nor faster than they are read', async () => {
    let made = 0;
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    await using server = await served(async function* () {
      try {
        for (; ; made += 1) {
          yield [{ text: 'x'.repeat(10_000) }];
          // Others have their turn.
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        end();
      }
    });
    const request = get(`${server.url}/lines`);
    const [response] = (await once(request, 'response')) as [NodeJS.ReadableStream];
    response.pause();
    // Until no more are made: some MiB stand in buffers of the kernel.
    for (let before = -1; before !== made; ) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.ok(made < 10_000, `${made} lines are in memory`);
    request.destroy();
    await ended;
  });
});
