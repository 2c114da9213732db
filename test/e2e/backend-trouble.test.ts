/** What a VM meets when the object store is in trouble, through the mount: waiting, never loss. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/core/units.ts';
import { wharf } from '../support/command.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount } from '../support/playground.ts';
import { TroubledS3 } from '../support/troubled-s3.ts';

interface Status {
  readonly waiting: readonly string[];
  readonly backend: { readonly state: string; readonly error?: string };
}

const volumes = {
  ...{ journalFile: '4MiB', journalMax: '16MiB', segment: '1MiB', cut: '2MiB' },
  destageDelay: '100ms',
};
const totalBytes = 48 * MiB;
const chunkBytes = MiB;
const chunk = (index: number) => Buffer.alloc(chunkBytes, index + 1);

let vpools = 0;

/** Each with a registry of its own has buckets of its own. */
function daemonOn(server: TroubledS3): Daemon {
  vpools += 1;
  const backend = { kind: 's3', endpoint: server.endpoint } as const;
  return new Daemon({ vpool: `demo-${vpools}`, backend, volumes });
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `never happened: ${what}`);
    await sleep(50);
  }
}

const sync = async (daemon: Daemon, path: string) =>
  (await fetch(`${daemon.admin}/v1/vdisk/sync?path=${path}`, { method: 'POST' })).status;

async function verify(path: string): Promise<void> {
  const file = await fs.open(path);
  const found = Buffer.alloc(chunkBytes);
  for (let at = 0; at < totalBytes; at += chunkBytes) {
    await file.read(found, 0, chunkBytes, at);
    assert.ok(found.equals(chunk(at / chunkBytes)), `at ${at}`);
  }
  await file.close();
}

describe('an object store in trouble', { skip: cannotMount }, () => {
  let server: TroubledS3;
  before(async () => {
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' });
    server = await TroubledS3.start();
  });
  after(() => server[Symbol.asyncDispose]());

  for (const trouble of ['down', 'hangs', 'fails', 'throttles', 'full'] as const)
    test(`that ${trouble === 'full' || trouble === 'down' ? `is ${trouble}` : trouble} makes writers wait, and nothing is lost`, async () => {
      server.set('none');
      await using daemon = daemonOn(server);
      await daemon.start();
      const path = join(daemon.mount, `${trouble}.raw`);
      const file = await fs.open(path, 'w');
      server.set(trouble);
      let written = 0;
      await file.write(chunk(0), 0, chunkBytes, 0);
      // A flush asks nothing of the object store.
      await file.datasync();
      const writer = (async () => {
        for (; written < totalBytes; written += chunkBytes)
          await file.write(chunk(written / chunkBytes), 0, chunkBytes, written);
      })();
      const isWaiting = async () => (await daemon.status<Status>()).waiting.length > 0;
      await until('the writer waits', isWaiting);
      assert.ok(written > 0 && written < totalBytes);
      if (trouble !== 'hangs') {
        const { backend } = await daemon.status<Status>();
        assert.equal(backend.state, 'waiting');
        assert.ok((backend.error ?? '').length > 0);
      }
      server.set('none');
      await writer;
      await file.close();
      assert.equal(await sync(daemon, `/${trouble}.raw`), 200);
      await until('the outage is over', async () => {
        const { backend } = await daemon.status<Status>();
        return backend.state === 'ok';
      });
      assert.equal(await daemon.end('SIGTERM'), 0);
      await fs.rm(daemon.data, { recursive: true });
      await daemon.start();
      await verify(path);
    });

  test('that is full makes snapshots and clones wait, and says so', async () => {
    server.set('none');
    await using daemon = daemonOn(server);
    await daemon.start();
    const path = join(daemon.mount, 'disk.raw');
    await fs.writeFile(path, chunk(1));
    server.set('full');
    await fs.writeFile(path, chunk(2), { flag: 'r+' });
    const command = (...words: string[]) =>
      wharf('vdisk', ...words, '--json', '--admin', daemon.admin);
    let isDone = false;
    const made = Promise.all([
      command('snapshot', 'create', '/disk.raw', 's'),
      command('clone', '/disk.raw', '/clone.raw'),
    ]).finally(() => {
      isDone = true;
    });
    const isWaiting = async () => (await daemon.status<Status>()).backend.state === 'waiting';
    await until('they wait', isWaiting);
    // Longer than the command's patience, after which it tells why.
    await sleep(8000);
    assert.equal(isDone, false);
    assert.ok(!(await fs.readdir(daemon.mount)).includes('clone.raw'), 'nothing is half-made');
    server.set('none');
    for (const { code, stderr } of await made) {
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^waits: the object store: .+\n$/);
    }
    assert.ok((await fs.readFile(join(daemon.mount, 'clone.raw'))).equals(chunk(2)));
  });

  test('is waited for at start, visibly, and until told to stop', async () => {
    await using daemon = daemonOn(server);
    server.set('down');
    daemon.spawn();
    const ready = daemon.ready();
    ready.catch(() => {});
    await until('it says so', async () => daemon.log.includes('backend in trouble'));
    assert.equal(await daemon.end('SIGTERM'), 0);
    daemon.spawn();
    const readyAgain = daemon.ready();
    await sleep(500);
    server.set('none');
    await readyAgain;
    await fs.writeFile(join(daemon.mount, 'a'), 'a');
  });

  test('holds up no stop, and what was flushed is there at the next start', async () => {
    server.set('none');
    await using daemon = daemonOn(server);
    await daemon.start();
    const path = join(daemon.mount, 'stopped.raw');
    const file = await fs.open(path, 'w');
    server.set('down');
    for (let at = 0; at < 4 * MiB; at += MiB) await file.write(chunk(at / MiB), 0, MiB, at);
    await file.datasync();
    await file.close();
    assert.equal(await daemon.end('SIGTERM'), 0);
    server.set('none');
    await daemon.start();
    const found = await fs.readFile(path);
    for (let at = 0; at < 4 * MiB; at += MiB)
      assert.ok(found.subarray(at, at + MiB).equals(chunk(at / MiB)));
  });

  test('ends no stop that finds writers waiting: they get an error, not silence', async () => {
    server.set('none');
    await using daemon = daemonOn(server);
    await daemon.start();
    const file = await fs.open(join(daemon.mount, 'busy.raw'), 'w');
    await fs.writeFile(join(daemon.mount, 'note'), 'never flushed');
    server.set('down');
    const writer = (async () => {
      for (let at = 0; ; at += chunkBytes) await file.write(chunk(0), 0, chunkBytes, at);
    })();
    const failed = writer.then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code,
    );
    await until('the writer waits', async () => {
      const { waiting } = await daemon.status<Status>();
      return waiting.length > 0;
    });
    await daemon.end('SIGTERM');
    assert.match(String(await failed), /^E/);
    await file.close().catch(() => {});
    server.set('none');
    await daemon.start();
  });
});
