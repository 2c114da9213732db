/** A vPool whose registry is gone: what its buckets bring back, with real daemons and mounts. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { MiB } from '../../src/core/units.ts';
import type { RecoveryReport } from '../../src/daemon/recovery/recover-vpool.ts';
import type { CopyStatus } from '../../src/registry/copy/registry-copier.ts';
import { wharf } from '../support/command.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount } from '../support/playground.ts';

const bytes = (size: number, value: number) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * value) >> 3));

/** What is on the mount, by path: kind, size, mode and a digest of the content or the target. */
async function treeOf(mount: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await fs.readdir(mount, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { size, mode, mtimeMs } = await fs.lstat(path);
    const content = entry.isFile()
      ? createHash('sha1')
          .update(await fs.readFile(path))
          .digest('hex')
      : entry.isSymbolicLink()
        ? await fs.readlink(path)
        : '';
    const times = entry.isDirectory() ? '' : ` ${mtimeMs}`;
    found[path.slice(mount.length)] =
      `${mode.toString(8)} ${entry.isFile() ? size : ''} ${content}${times}`;
  }
  return found;
}

async function loseRegistry(daemon: Daemon): Promise<void> {
  for (const name of await fs.readdir(daemon.folder))
    if (name.startsWith('registry.sqlite')) await fs.rm(join(daemon.folder, name));
  // The SSD is gone as well.
  await fs.rm(daemon.data, { recursive: true });
}

interface Status {
  readonly registryCopy: CopyStatus | null;
}

async function recover(daemon: Daemon, code: number, ...flags: string[]): Promise<RecoveryReport> {
  const config = join(daemon.folder, 'wharf.yaml');
  const words = ['vpool', 'recover', 'demo', '--config', config, '--json', ...flags];
  const ended = await wharf(...words);
  assert.equal(ended.code, code, ended.stderr + ended.stdout);
  return JSON.parse(ended.stdout) as RecoveryReport;
}

describe('a vPool whose registry is lost', { skip: cannotMount }, () => {
  test('is brought back from its buckets', async () => {
    const settings = { registryCopy: { delay: '100ms' } };
    await using daemon = new Daemon(settings);
    await daemon.start();
    await fs.mkdir(daemon.at('vm1'));
    await fs.writeFile(daemon.at('vm1/disk.raw'), bytes(6 * MiB, 7));
    await fs.writeFile(daemon.at('vm1/config.xml'), bytes(3000, 3));
    await fs.writeFile(daemon.at('vm1/hosts'), bytes(100, 19));
    await fs.writeFile(daemon.at('note.txt'), bytes(1 * MiB + 17, 5));
    await fs.symlink('vm1/disk.raw', daemon.at('link'));
    await fs.chmod(daemon.at('note.txt'), 0o640);
    for (let index = 0; index < 300; index += 1)
      await fs.writeFile(daemon.at('vm1', `empty ${index}`), '');
    await fs.rm(daemon.at('vm1', 'empty 7'));
    await daemon.sync('/vm1/disk.raw');
    const isCopied = async () => (await daemon.status<Status>()).registryCopy?.isBehind === false;
    await daemon.until('files are written back', async () => {
      const { size } = await fs.stat(daemon.at('note.txt'));
      return size === 1 * MiB + 17 && (await isCopied());
    });
    const metrics = await (await fetch(`${daemon.admin}/metrics`)).text();
    assert.match(metrics, /^wharf_registry_copy_age_seconds\{behind="(true|false)"\} [\d.]+$/m);
    const before = await treeOf(daemon.mount);
    await daemon.end('SIGTERM');
    await loseRegistry(daemon);

    assert.match(await daemon.refusal(), /holds vPool demo; `wharf vpool recover demo` brings/);
    await loseRegistry(daemon);
    const said = await recover(daemon, 0, '--dry-run');
    assert.ok(!(await fs.readdir(daemon.folder)).includes('registry.sqlite'));
    const done = await recover(daemon, 0);
    assert.deepEqual({ ...said, namesAgeMs: 0, isDryRun: false }, { ...done, namesAgeMs: 0 });
    assert.deepEqual([done.names, done.volumes, done.files, done.losses], [305, 1, 302, []]);
    await daemon.start();
    assert.deepEqual(await treeOf(daemon.mount), before);

    // It is in use again: nothing is recovered over it.
    const ended = await wharf(
      'vpool',
      'recover',
      'demo',
      '--config',
      join(daemon.folder, 'wharf.yaml'),
    );
    assert.equal(ended.code, 1);
    assert.match(ended.stderr, /host a \(.*\) is up: stop all hosts/);
    await daemon.end('SIGTERM');

    // From here on the copy is older than what is changed, and the host dies.
    settings.registryCopy.delay = '1min';
    await daemon.start();
    await fs.writeFile(daemon.at('late.raw'), bytes(2 * MiB, 9));
    await daemon.sync('/late.raw');
    const disk = await fs.open(daemon.at('vm1/disk.raw'), 'r+');
    await disk.write(bytes(MiB, 11), 0, MiB, 2 * MiB);
    await disk.close();
    await daemon.sync('/vm1/disk.raw');
    const note = await fs.open(daemon.at('note.txt'), 'r+');
    await note.write(bytes(100, 13), 0, 100, 0);
    await note.sync();
    await note.close();
    // As an editor does, and as one does who makes a mistake.
    await fs.writeFile(daemon.at('new.xml'), bytes(3000, 17), { flush: true });
    await fs.rename(daemon.at('new.xml'), daemon.at('vm1/config.xml'));
    await fs.rm(daemon.at('vm1/hosts'));
    const changed = await fs.readFile(daemon.at('vm1/disk.raw'));
    await daemon.end('SIGKILL');
    await loseRegistry(daemon);
    const late = await recover(daemon, 5);
    // What is left of new.xml, which the names of then don't know.
    assert.equal(late.losses.length, 1);
    assert.match(late.losses[0] ?? '', /^object \S+: a small file without a name, 1 pieces of it$/);
    assert.equal(late.recovered.length, 1);
    await daemon.start();
    const [path = ''] = late.recovered;
    assert.ok((await fs.readFile(daemon.at(path))).equals(bytes(2 * MiB, 9)));
    assert.ok((await fs.readFile(daemon.at('vm1/disk.raw'))).equals(changed));
    const kept = await treeOf(daemon.mount);
    for (const [name, what] of Object.entries(before))
      if (name !== '/vm1/disk.raw') assert.equal(kept[name], what, name);
  });

  test('has its snapshots again, and clones of which some outlived their source', async () => {
    await using daemon = new Daemon({ registryCopy: { delay: '100ms' } });
    await daemon.start();
    const write = async (name: string, value: number) => {
      await fs.writeFile(daemon.at(name), bytes(2 * MiB, value));
      await daemon.sync(`/${name}`);
    };
    const holds = async (name: string, value: number) =>
      assert.ok((await fs.readFile(daemon.at(name))).equals(bytes(2 * MiB, value)), name);
    await write('source.raw', 3);
    await daemon.wharf('vdisk', 'clone', '/source.raw', '/untouched.raw');
    await daemon.wharf('vdisk', 'clone', '/source.raw', '/orphan.raw');
    await daemon.wharf('vdisk', 'clone', '/orphan.raw', '/grandchild.raw');
    await write('grandchild.raw', 5);
    await daemon.wharf('vdisk', 'snapshot', 'create', '/source.raw', 'three');
    await write('source.raw', 7);
    await daemon.wharf('vdisk', 'clone', '/grandchild.raw', '/alone.raw');
    await daemon.wharf('vdisk', 'flatten', '/alone.raw');
    await fs.unlink(daemon.at('grandchild.raw'));
    const isCopied = async () => (await daemon.status<Status>()).registryCopy?.isBehind === false;
    await daemon.until('the registry is copied', isCopied);
    await daemon.end('SIGTERM');
    await loseRegistry(daemon);
    const done = await recover(daemon, 0);
    assert.deepEqual([done.losses, done.recovered], [[], []]);
    await daemon.start();
    await holds('source.raw', 7);
    await holds('untouched.raw', 3);
    await holds('orphan.raw', 3);
    await holds('alone.raw', 5);
    await daemon.wharf('vdisk', 'snapshot', 'rollback', '/source.raw', 'three', '--yes');
    await holds('source.raw', 3);
  });

  test('refuses wrong words in one line', async () => {
    const ended = await wharf('vpool', 'recover', 'demo', '--registry', 'paper');
    assert.equal(ended.code, 2);
    assert.match(ended.stderr, /^wharf: --registry: found paper; allowed is sqlite or etcd\n$/);
  });
});
