/**
 * Random operations on the file system by two instances over one registry, against a plain tree in
 * memory; and a scan of the registry that finds every dangling or leaked record.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStorageError } from '../../src/core/errors.ts';
import type { Ino, ObjectId } from '../../src/core/units.ts';
import { hostId } from '../../src/core/units.ts';
import { WharfFileSystem } from '../../src/frontend/filesystem.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { prefixRange } from '../../src/ports/registry.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { CachedRegistry } from '../../src/registry/cached-registry.ts';
import { Namespace, namespaceGroups } from '../../src/registry/namespace.ts';
import { HeldRegistry } from '../support/held-registry.ts';
import { lineageOf, noKeptFiles } from '../support/lineage.ts';
import { memoryObjects } from '../support/memory-objects.ts';
import { quietLog } from '../support/quiet-log.ts';

const owner = { uid: 0, gid: 0 };
const names = ['a', 'b', 'c', 'd', '\u00ff\u0001'];

interface ModelNode {
  readonly type: 'file' | 'directory';
  readonly children: Map<string, ModelNode>;
  links: number;
}

const newNode = (type: 'file' | 'directory'): ModelNode => ({
  type,
  children: new Map(),
  links: 1,
});

/** A tree that does what POSIX says, or names the error. */
class ModelTree {
  readonly root = newNode('directory');

  find(path: readonly string[]): ModelNode | undefined {
    let at: ModelNode | undefined = this.root;
    for (const name of path) at = at?.children.get(name);
    return at;
  }

  /** All directories with their paths. */
  *directories(at = this.root, path: string[] = []): Generator<string[]> {
    yield path;
    for (const [name, child] of at.children)
      if (child.type === 'directory') yield* this.directories(child, [...path, name]);
  }

  rename(from: string[], to: string[]): string | undefined {
    const source = this.find(from.slice(0, -1)) as ModelNode;
    const target = this.find(to.slice(0, -1)) as ModelNode;
    const [name, next] = [from.at(-1) as string, to.at(-1) as string];
    const moving = source.children.get(name);
    if (!moving) return 'not_found';
    const below = to.slice(0, -1);
    const isInside =
      moving.type === 'directory' && from.every((part, index) => below[index] === part);
    if (isInside) return 'invalid';
    const standing = target.children.get(next);
    if (standing === moving) return undefined;
    if (standing) {
      if (moving.type === 'directory' && standing.type === 'file') return 'not_directory';
      if (moving.type === 'file' && standing.type === 'directory') return 'is_directory';
      if (standing.children.size > 0) return 'not_empty';
      standing.links -= 1;
    }
    source.children.delete(name);
    target.children.set(next, moving);
    return undefined;
  }
}

const salt = '00'.repeat(16);
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A namespace that answers from memory, and hears late of what others do. */
function lateNamespace(registry: MemoryRegistry) {
  const held = new HeldRegistry(registry);
  const clock = systemClock(undefined);
  const deps = { clock, log: quietLog(), freshUntilMs: () => clock.monotonicMs() + 100_000 };
  const cached = new CachedRegistry(held.registry, deps, { ...namespaceGroups, groupsMax: 30 });
  return { held, cached, namespace: new Namespace(cached, salt, cached.fresh) };
}

async function life(seed: number, hosts: 'plain' | 'cached'): Promise<void> {
  const random = seededRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.fraction() * list.length)] as T;
  const registry = new MemoryRegistry(systemClock(undefined));
  const objects = memoryObjects();
  const late = hosts === 'cached' ? [lateNamespace(registry), lateNamespace(registry)] : [];
  await settle();
  assert.ok(late.every(({ cached }) => cached.isLive()));
  const plain = new Namespace(registry, salt);
  const open = (namespace = plain) =>
    WharfFileSystem.open(
      {
        ...{
          namespace,
          objects,
          lineage: lineageOf(registry),
          kept: noKeptFiles(),
          clock: systemClock(undefined),
          random,
          log: quietLog(),
          host: hostId('a'),
        },
        space: async () => ({ totalBytes: 1, freeBytes: 1, inodesTotal: 1, inodesFree: 1 }),
      },
      { volumeNames: ['*.raw'], attributeDelayMs: 1_000_000, keptMs: 0 },
      owner,
    );
  const instances = [await open(late[0]?.namespace), await open(late[1]?.namespace)];
  const now = await open();
  const tree = new ModelTree();
  const inoOf = async (path: readonly string[]): Promise<Ino> => {
    let ino = rootIno;
    for (const name of path) ino = (await now.lookup(ino, name)).ino;
    return ino;
  };
  const expect = async (
    action: () => Promise<unknown>,
    error: string | undefined,
    what: string,
  ) => {
    try {
      await action();
      assert.equal(undefined, error, `${what} should fail`);
    } catch (thrown) {
      if (!isStorageError(thrown)) throw thrown;
      assert.equal(thrown.code, error, what);
    }
  };
  for (let step = 0; step < 150; step += 1) {
    for (const { held } of late)
      if (random.fraction() < 0.4) held.news.open();
      else if (random.fraction() < 0.3) held.news.close();
    const fileSystem = pick(instances);
    const folders = [...tree.directories()];
    const path = pick(folders);
    const folder = tree.find(path) as ModelNode;
    const name = pick(names);
    const parent = await inoOf(path);
    const standing = folder.children.get(name);
    const kind = random.fraction();
    const what = `seed ${seed} step ${step} ${path.join('/')}/${name}`;
    if (kind < 0.3) {
      const type = pick(['file', 'directory'] as const);
      const make = () => fileSystem.make(parent, name, { type, mode: 0o755 }, owner);
      await expect(make, standing && 'exists', `${what} make`);
      if (!standing) folder.children.set(name, newNode(type));
    } else if (kind < 0.45) {
      let error = standing ? undefined : 'not_found';
      if (standing?.type === 'directory') error = 'is_directory';
      await expect(() => fileSystem.unlink(parent, name), error, `${what} unlink`);
      if (error === undefined && standing) {
        standing.links -= 1;
        folder.children.delete(name);
      }
    } else if (kind < 0.55) {
      let error = standing ? undefined : 'not_found';
      if (standing?.type === 'file') error = 'not_directory';
      else if (standing && standing.children.size > 0) error = 'not_empty';
      await expect(() => fileSystem.removeDirectory(parent, name), error, `${what} rmdir`);
      if (error === undefined) folder.children.delete(name);
    } else if (kind < 0.65) {
      const from = pick(folders);
      const [linked] = [...(tree.find(from) as ModelNode).children].filter(
        ([, node]) => node.type === 'file',
      );
      if (!linked) continue;
      const ino = await inoOf([...from, linked[0]]);
      await expect(() => fileSystem.link(ino, parent, name), standing && 'exists', `${what} link`);
      if (!standing) {
        folder.children.set(name, linked[1]);
        linked[1].links += 1;
      }
    } else {
      const to = pick(folders);
      const next = pick(names);
      const target = { parent: await inoOf(to), name: next };
      const error = tree.rename([...path, name], [...to, next]);
      const rename = () => fileSystem.rename({ parent, name }, target, 'replace');
      await expect(rename, error, `${what} rename to ${to.join('/')}/${next}`);
    }
  }
  for (const { held } of late) held.news.open();
  await settle();
  for (const instance of [now, ...instances]) await compare(instance, tree.root, rootIno);
  for (const instance of [now, ...instances]) await instance.close();
  for (const { cached } of late) {
    assert.ok(cached.isLive() && cached.groupCount > 0);
    await cached.close();
  }
  await checkRegistry(registry, objects.ids());
}

async function compare(fileSystem: WharfFileSystem, node: ModelNode, ino: Ino): Promise<void> {
  const entries = (await fileSystem.list(ino, 0n, 100)).filter(({ name }) => !name.startsWith('.'));
  assert.deepEqual(
    entries.map(({ name }) => String(name)).sort(),
    [...node.children.keys()].sort(),
  );
  const attributes = await fileSystem.attributes(ino);
  const folders = [...node.children.values()].filter(({ type }) => type === 'directory').length;
  assert.equal(attributes.linkCount, 2 + folders);
  for (const entry of entries) {
    const child = node.children.get(entry.name) as ModelNode;
    assert.equal((await fileSystem.lookup(ino, entry.name)).ino, entry.ino);
    assert.equal(entry.type, child.type);
    if (child.type === 'directory') await compare(fileSystem, child, entry.ino);
    else assert.equal((await fileSystem.attributes(entry.ino)).linkCount, child.links);
  }
  for (const name of names.filter((one) => !node.children.has(one)))
    await assert.rejects(fileSystem.lookup(ino, name), { code: 'not_found' });
}

/** Every entry has its inode, every inode its entries, and nothing else is left. */
async function checkRegistry(registry: MemoryRegistry, kept: ReadonlySet<ObjectId>): Promise<void> {
  const count = async (prefix: string) =>
    (await registry.range(prefixRange(prefix))).entries.length;
  const { entries: inodes } = await registry.range(prefixRange('i'));
  const links = new Map<number, number>();
  for (const { value } of (await registry.range(prefixRange('d'))).entries) {
    const { ino } = JSON.parse(Buffer.from(value).toString()) as { ino: number };
    links.set(ino, (links.get(ino) ?? 0) + 1);
  }
  let files = 0;
  for (const { value } of inodes) {
    const inode = JSON.parse(Buffer.from(value).toString()) as {
      ino: number;
      type: string;
      linkCount: number;
      object?: ObjectId;
    };
    if (inode.ino === rootIno) continue;
    const found = links.get(inode.ino) ?? 0;
    assert.equal(
      found,
      inode.type === 'directory' ? 1 : inode.linkCount,
      'links are counted right',
    );
    links.delete(inode.ino);
    if (inode.type === 'file') files += 1;
  }
  assert.equal(links.size, 0, 'an entry without an inode');
  assert.equal(await count('u'), 0, 'an orphan is left');
  assert.equal(await count('g'), 0, 'a deletion is left');
  assert.equal(await count('b'), files, 'a back reference for each file');
  assert.ok(kept.size <= files, 'data of a deleted file is left');
}

test('the namespace agrees with a plain tree, and leaks nothing', async () => {
  for (let seed = 1; seed <= 60; seed += 1) await life(seed, 'plain');
});

test('so it does for hosts that answer from memory and hear late of each other', async () => {
  for (let seed = 1; seed <= 60; seed += 1) await life(seed, 'cached');
});

test('many makers of names in one folder all succeed, and one wins each name', async () => {
  const registry = new MemoryRegistry(systemClock(undefined));
  const fileSystem = await WharfFileSystem.open(
    {
      namespace: new Namespace(registry, salt),
      lineage: lineageOf(registry),
      kept: noKeptFiles(),
      ...{ objects: memoryObjects(), clock: systemClock(undefined), random: seededRandom(1) },
      log: quietLog(),
      host: hostId('a'),
      space: async () => ({ totalBytes: 1, freeBytes: 1, inodesTotal: 1, inodesFree: 1 }),
    },
    { volumeNames: [], attributeDelayMs: 1_000_000, keptMs: 0 },
    owner,
  );
  const make = (name: string) =>
    fileSystem.make(rootIno, name, { type: 'file', mode: 0o644 }, owner).then(
      () => true,
      () => false,
    );
  const won = await Promise.all(Array.from({ length: 600 }, (_, index) => make(`n${index % 300}`)));
  assert.equal(won.filter(Boolean).length, 300);
  const entries = await fileSystem.list(rootIno, 0n, 1000);
  assert.equal(entries.length, 302);
  await fileSystem.close();
});
