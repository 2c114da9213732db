import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Registry } from '../../../src/ports/registry.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import type { ForeignChange } from '../../../src/registry/cached-registry.ts';
import { CachedRegistry } from '../../../src/registry/cached-registry.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { HeldRegistry } from '../../support/held-registry.ts';
import { quietLog } from '../../support/quiet-log.ts';

/** `i…` is kept key by key, `d……` by its first three characters. */
const layout = {
  prefixes: ['d', 'i'],
  groupOf(key: string): string | undefined {
    if (key[0] === 'i') return key;
    return key[0] === 'd' && key.length >= 3 ? key.slice(0, 3) : undefined;
  },
  groupsMax: 100,
};
const settle = () => new Promise((resolve) => setImmediate(resolve));

class Host {
  readonly held: HeldRegistry;
  readonly cached: CachedRegistry;
  readonly told: string[] = [];
  freshUntilMs = Number.POSITIVE_INFINITY;

  constructor(clock: SimulatedClock, store: MemoryStore, groupsMax = 100) {
    this.held = new HeldRegistry(new MemoryRegistry(clock, store));
    const deps = { clock, log: quietLog(), freshUntilMs: () => this.freshUntilMs };
    this.cached = new CachedRegistry(this.held.registry, deps, { ...layout, groupsMax });
    this.cached.onForeignChange((change) => this.told.push(describeChange(change)));
  }

  put(key: string, value: string) {
    const writes = [{ key, put: Buffer.from(value) }];
    return this.cached.transact({ compares: [], writes });
  }

  delete(key: string) {
    return this.cached.transact({ compares: [], writes: [{ key, delete: true }] });
  }

  /** The value, and whether it came from memory. */
  async get(key: string, registry: Registry = this.cached): Promise<string> {
    const before = this.held.readCount;
    const found = await registry.get(key);
    return `${text(found?.value)} ${this.held.readCount === before ? 'cached' : 'read'}`;
  }

  async group(prefix: string): Promise<string> {
    const before = this.held.readCount;
    const { entries } = await this.cached.range(prefixRange(prefix));
    const found = entries.map(({ key, value }) => `${key}=${text(value)}`).join(',');
    return `${found || '-'} ${this.held.readCount === before ? 'cached' : 'read'}`;
  }
}

const text = (value: Uint8Array | undefined) => (value ? Buffer.from(value).toString() : '-');
const describeChange = ({ key, value, before }: ForeignChange) =>
  `${key} ${text(before)}>${text(value)}`;

class World implements AsyncDisposable {
  readonly clock = new SimulatedClock();
  readonly store = new MemoryStore(this.clock);
  readonly a = new Host(this.clock, this.store);
  readonly b = new Host(this.clock, this.store);

  static async live(): Promise<World> {
    const world = new World();
    await settle();
    assert.ok(world.a.cached.isLive() && world.b.cached.isLive());
    return world;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { held, cached } of [this.a, this.b]) {
      for (const gate of [held.reads, held.commits, held.news]) gate.open();
      await cached.close();
      await held.registry.close();
    }
  }
}

describe('a cached registry', () => {
  test('answers from memory what it has read, also that there is nothing', async () => {
    await using world = await World.live();
    const { a } = world;
    await a.put('dax1', 'one');
    assert.deepEqual(
      [await a.get('i1'), await a.get('i1'), await a.group('dax'), await a.group('dax')],
      ['- read', '- cached', 'dax1=one read', 'dax1=one cached'],
    );
    assert.deepEqual([await a.group('day'), await a.group('day')], ['- read', '- cached']);
    assert.deepEqual([await a.get('z'), await a.get('z')], ['- read', '- read']);
    assert.equal(await a.get('i1', a.cached.fresh), '- read');
  });

  test('knows its own changes when they return, and those of others when they are told', async () => {
    await using world = await World.live();
    const { a, b } = world;
    await b.group('dax');
    a.held.news.close();
    await a.put('i1', 'a');
    assert.equal(await a.get('i1'), 'a cached');
    await b.group('dax');
    await b.put('dax2', 'b2');
    await b.put('dax1', 'b1');
    assert.equal(await b.group('dax'), 'dax1=b1,dax2=b2 cached');
    assert.equal(await b.get('i1'), 'a read');
    await a.put('i1', 'again');
    await settle();
    assert.equal(await b.get('i1'), 'again cached');
    await a.delete('i1');
    assert.equal(await a.get('i1'), '- cached');
    await settle();
    assert.equal(await b.get('i1'), '- cached');
  });

  test('never goes back to what is older than a change of its own', async () => {
    await using world = await World.live();
    const { a, b } = world;
    a.held.news.close();
    await b.put('i1', 'old');
    await b.put('dax1', 'old');
    await a.group('dax');
    await b.put('dax2', 'others');
    await a.put('i1', 'new');
    await a.put('dax1', 'new');
    a.held.newsLeft = 1;
    a.held.news.open();
    await settle();
    assert.equal(await a.get('i1'), 'new cached');
    assert.equal(await a.group('dax'), 'dax1=new cached');
    a.held.newsLeft = Number.POSITIVE_INFINITY;
    a.held.news.open();
    await settle();
    assert.equal(await a.get('i1'), 'new cached');
    assert.equal(
      await a.group('dax'),
      'dax1=new,dax2=others cached',
      'of the group, nothing is lost',
    );
  });

  test('keeps nothing of a read that a change has overtaken', async () => {
    await using world = await World.live();
    const { a, b } = world;
    a.held.reads.close();
    const reads = [a.get('i1'), a.group('dax')];
    await settle();
    await b.put('i1', 'b');
    await a.put('dax1', 'a');
    await settle();
    a.held.reads.open();
    assert.deepEqual(await Promise.all(reads), ['- read', '- read']);
    assert.deepEqual([await a.get('i1'), await a.group('dax')], ['b read', 'dax1=a read']);
    assert.deepEqual([await a.get('i1'), await a.group('dax')], ['b cached', 'dax1=a cached']);
  });

  test('forgets what it compared in vain', async () => {
    await using world = await World.live();
    const { a, b } = world;
    await a.get('i1');
    a.held.news.close();
    await b.put('i1', 'b');
    assert.equal(await a.get('i1'), '- cached');
    const compares = [{ key: 'i1', is: 'absent' } as const];
    const outcome = await a.cached.transact({ compares, writes: [] });
    assert.deepEqual([outcome.committed, await a.get('i1')], [false, 'b read']);
  });

  test('forgets what a transaction without an answer may have changed', async () => {
    await using world = await World.live();
    const { a } = world;
    await a.get('i1');
    a.held.news.close();
    a.held.commits.pass = () => Promise.reject(new StorageError('closed', 'too late'));
    await assert.rejects(a.put('i1', 'a'));
    assert.equal(await a.get('i1'), 'a read');
  });

  test('is bounded', async () => {
    const clock = new SimulatedClock();
    const host = new Host(clock, new MemoryStore(clock), 10);
    await settle();
    for (let index = 0; index < 50; index += 1) {
      await host.get(`i${index}`);
      await host.put(`i${index}`, 'x');
      await host.group(`d${String(index).padStart(2, '0')}`);
      await host.cached.range(prefixRange('d'));
    }
    assert.equal(host.cached.groupCount, 10);
    await host.cached.close();
  });
});

describe('a cached registry that hears nothing', () => {
  for (const code of ['compacted', 'unavailable', 'failed'] as const)
    test(`is empty when its watch breaks with ${code}, and starts anew`, async () => {
      await using world = await World.live();
      const { a, b } = world;
      await a.get('i1');
      a.held.broken = new StorageError(code, 'broken');
      await b.put('i2', 'b');
      await settle();
      assert.equal(a.cached.isLive(), false);
      assert.deepEqual([await a.get('i1'), await a.get('i1')], ['- read', '- read']);
      await a.put('i3', 'a');
      assert.equal(a.cached.groupCount, 0);
      a.held.broken = undefined;
      await world.clock.advance(100);
      assert.equal(a.cached.isLive(), true);
      assert.equal(await a.get('i1'), '- read');
      await b.put('i1', 'heard');
      await settle();
      assert.equal(await a.get('i1'), 'heard cached');
    });

  test('is bypassed while the lease is not fresh, and empty afterwards', async () => {
    await using world = new World();
    const { a, b, clock } = world;
    a.freshUntilMs = 1000;
    await settle();
    await a.get('i1');
    await clock.advance(600);
    a.freshUntilMs = 2000;
    await clock.advance(900);
    assert.equal(await a.get('i1'), '- cached');
    a.held.news.close();
    await b.put('i1', 'b');
    await clock.advance(499);
    assert.equal(await a.get('i1'), '- cached', 'it can not know better');
    await clock.advance(1);
    assert.deepEqual([await a.get('i1'), await a.get('i1')], ['b read', 'b read']);
    a.freshUntilMs = Number.POSITIVE_INFINITY;
    await clock.advance(100);
    assert.equal(a.cached.isLive(), true);
    assert.deepEqual([await a.get('i1'), await a.get('i1')], ['b read', 'b cached']);
  });

  test('notices a lease that was not fresh for a moment, when nobody read', async () => {
    await using world = new World();
    const { a, b, clock } = world;
    a.freshUntilMs = 1000;
    await settle();
    await a.get('i1');
    a.held.news.close();
    await b.put('i1', 'b');
    await clock.advance(1000);
    a.freshUntilMs = Number.POSITIVE_INFINITY;
    await clock.advance(100);
    assert.equal(await a.get('i1'), 'b read');
  });

  test('does not take an answer from before it began for news', async () => {
    await using world = await World.live();
    const { a, b } = world;
    a.held.commits.close();
    const late = a.put('i1', 'a');
    a.held.broken = new StorageError('compacted', 'broken');
    await b.put('i1', 'b');
    await settle();
    a.held.broken = undefined;
    await world.clock.advance(100);
    assert.equal(a.cached.isLive(), true);
    a.held.commits.open();
    await late;
    assert.equal(await a.get('i1'), 'b read');
  });
});

describe('changes of others', () => {
  test('are told with what was known, and own ones are not', async () => {
    await using world = await World.live();
    const { a, b } = world;
    await a.put('i1', 'a');
    await settle();
    await b.put('i1', 'b');
    await b.put('dax1', 'b');
    await a.cached.range(prefixRange('d'));
    await b.delete('dax1');
    await b.put('z', 'not watched');
    await settle();
    assert.deepEqual(a.told, ['i1 a>b', 'dax1 ->b', 'dax1 b>-']);
    assert.deepEqual(b.told, ['i1 ->a']);
  });

  test('are told apart from own ones whose answers come late', async () => {
    await using world = await World.live();
    const { a, b } = world;
    a.held.commits.close();
    const late = a.put('i1', 'a');
    await settle();
    assert.deepEqual(a.told, []);
    a.held.commits.open();
    await late;
    assert.deepEqual(a.told, []);
    a.held.commits.close();
    const again = a.put('i1', 'a2');
    await settle();
    await b.put('i1', 'b');
    await settle();
    assert.deepEqual(a.told, []);
    a.held.commits.open();
    await again;
    await settle();
    assert.deepEqual(a.told, ['i1 a>b'], 'held back until its own was known');
  });

  test('are told where a transaction of the same keys did not commit', async () => {
    await using world = await World.live();
    const { a, b } = world;
    await b.put('i1', 'b');
    await settle();
    a.told.length = 0;
    a.held.commits.close();
    const compares = [{ key: 'i1', is: 'absent' } as const];
    const writes = [{ key: 'i1', delete: true } as const];
    const failing = a.cached.transact({ compares, writes });
    await b.put('i1', 'b2');
    await settle();
    assert.deepEqual(a.told, []);
    a.held.commits.open();
    assert.equal((await failing).committed, false);
    assert.deepEqual(a.told, ['i1 ->b2']);
  });
});
