/** The contract of `Registry` (src/ports/registry.ts). */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { leaseId } from '../../src/core/units.ts';
import type { Compare, KeyRange, Registry } from '../../src/ports/registry.ts';
import { prefixRange } from '../../src/ports/registry.ts';
import type { RegistryWorld } from './registry-world.ts';
import { bytes, put, revisionOf, Seen, text, wholeRange, write } from './registry-world.ts';

export function registrySuite(name: string, open: () => Promise<RegistryWorld>): void {
  const within = (title: string, body: (world: RegistryWorld) => Promise<void>) =>
    test(title, async () => {
      await using world = await open();
      await body(world);
    });
  describe(`${name} as a registry`, () => {
    transactionTests(within);
    boundTests(within);
    leaseTests(within);
    watchTests(within);
  });
}

type Within = (title: string, body: (world: RegistryWorld) => Promise<void>) => void;

function transactionTests(within: Within): void {
  within('commits all writes of a transaction, or none', async ({ registry, other }) => {
    const revision = await write(registry, ['ka', '1'], ['kb', '2']);
    const refused = await other.transact({
      compares: [{ key: 'ka', is: 'absent' }],
      writes: [put('kc', '3'), { key: 'kb', delete: true }],
    });
    assert.equal(refused.committed, false);
    assert.equal(await registry.get('kc'), undefined);
    assert.equal((await other.get('kb'))?.revision, revision);
  });

  within('compares absence, presence and revision', async ({ registry }) => {
    const holds = async (compare: Compare) =>
      (await registry.transact({ compares: [compare], writes: [] })).committed;
    assert.equal(await holds({ key: 'ka', is: 'absent' }), true);
    assert.equal(await holds({ key: 'ka', is: 'present' }), false);
    const revision = await write(registry, ['ka', '1']);
    assert.equal(await holds({ key: 'ka', is: 'absent' }), false);
    assert.equal(await holds({ key: 'ka', is: 'present' }), true);
    assert.equal(await holds({ key: 'ka', is: 'at', revision }), true);
    await write(registry, ['ka', '1']);
    assert.equal(await holds({ key: 'ka', is: 'at', revision }), false);
    await write(registry, ['ka', undefined]);
    assert.equal(await holds({ key: 'ka', is: 'at', revision }), false);
    assert.equal(await holds({ key: 'ka', is: 'absent' }), true);
  });

  within('orders keys by their bytes, whatever they are', async ({ registry }) => {
    const keys = ['k\u0000', 'k', 'k\u0001x', 'ka', 'k\u00ff', 'k\u00ff\u00ff', '\u00ff', '\u0000'];
    await registry.transact({ compares: [], writes: keys.map((key) => put(key, key)) });
    const keysOf = async (range: KeyRange, limit?: number) =>
      (await registry.range(range, { ...(limit && { limit }) })).entries.map(({ key }) => key);
    const ordered = ['k', 'k\u0000', 'k\u0001x', 'ka', 'k\u00ff', 'k\u00ff\u00ff'];
    assert.deepEqual(await keysOf(prefixRange('k')), ordered);
    assert.deepEqual(await keysOf(prefixRange('k'), 2), ordered.slice(0, 2));
    assert.deepEqual(await keysOf({ from: 'k\u0000', to: 'k\u00ff' }), ordered.slice(1, 4));
    const all = await keysOf(prefixRange(''));
    assert.deepEqual(
      all.filter((key) => !key.startsWith('t')),
      ['\u0000', ...ordered, '\u00ff'],
    );
    const found = await registry.get('\u00ff');
    assert.deepEqual(new Uint8Array(found?.value ?? []), bytes('\u00ff'));
  });

  within('lists more than fits one answer, all of one moment', async ({ registry }) => {
    for (let start = 0; start < 2400; start += 80)
      await write(
        registry,
        ...Array.from(
          { length: 80 },
          (_, index) => [`k${String(start + index).padStart(5, '0')}`, 'v'] as const,
        ),
      );
    const { entries, revision } = await registry.range(wholeRange);
    assert.equal(entries.length, 2400);
    assert.ok(entries.every(({ key }, index) => key === `k${String(index).padStart(5, '0')}`));
    assert.equal(entries.at(-1)?.revision, revision);
  });

  within('keeps values apart from the memory of whoever gave or got them', async ({ registry }) => {
    const given = Buffer.from('plain');
    await registry.transact({ compares: [], writes: [{ key: 'ka', put: given }] });
    given.fill(0);
    const got = await registry.get('ka');
    assert.equal(text(got?.value), 'plain');
    got?.value.fill(0);
    assert.equal(text((await registry.get('ka'))?.value), 'plain');
    await write(registry, ['kb', '']);
    assert.equal((await registry.get('kb'))?.value.length, 0);
  });

  within('numbers what changes something, and that alone', async ({ registry }) => {
    const first = await write(registry, ['ka', '1']);
    assert.equal(await revisionOf(registry), first);
    await registry.transact({ compares: [{ key: 'ka', is: 'present' }], writes: [] });
    assert.equal(await revisionOf(registry), first);
    assert.ok((await write(registry, ['ka', '2'])) > first);
  });

  within('adds up the counts of sixteen writers', async ({ registry, other }) => {
    const count = async (of: Registry, key: string) => {
      for (;;) {
        const found = await of.get(key);
        const compare: Compare = found
          ? { key, is: 'at', revision: found.revision }
          : { key, is: 'absent' };
        const writes = [put(key, String(Number(text(found?.value) ?? 0) + 1))];
        if ((await of.transact({ compares: [compare], writes })).committed) return;
      }
    };
    await Promise.all(
      Array.from({ length: 16 }, async (_, index) => {
        for (let step = 0; step < 5; step += 1)
          await count(index % 2 === 0 ? registry : other, `k${step % 2}`);
      }),
    );
    const { entries } = await registry.range(wholeRange);
    assert.deepEqual(
      entries.map(({ value }) => text(value)),
      ['48', '32'],
    );
  });

  within('gives each of many transactions at once an outcome of its own', async ({ registry }) => {
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        registry.transact({
          compares: [{ key: `k${index % 25}`, is: 'absent' }],
          writes: [put(`k${index % 25}`, String(index))],
        }),
      ),
    );
    const revisions = outcomes.flatMap((outcome) => (outcome.committed ? [outcome.revision] : []));
    assert.equal(revisions.length, 25);
    assert.equal(new Set(revisions).size, 25);
  });
}

function boundTests(within: Within): void {
  within('refuses what is too large, and does nothing', async ({ registry }) => {
    const refuses = (writes: { key: string; put: Uint8Array }[], code: 'too_large' | 'invalid') =>
      assert.rejects(registry.transact({ compares: [], writes }), (error) =>
        isStorageError(error, code),
      );
    const many = (count: number, value: Uint8Array) =>
      Array.from({ length: count }, (_, index) => ({ key: `k${index}`, put: value }));
    await refuses(many(limits.registryOperationsMax + 1, bytes('1')), 'too_large');
    await refuses(many(1, new Uint8Array(limits.registryValueBytesMax + 1)), 'too_large');
    await refuses(many(3, new Uint8Array(limits.registryValueBytesMax)), 'too_large');
    await refuses([put('ka', '1'), put('ka', '2')], 'invalid');
    assert.deepEqual((await registry.range(wholeRange)).entries, []);
    const largest = many(1, new Uint8Array(limits.registryValueBytesMax).fill(7));
    assert.ok((await registry.transact({ compares: [], writes: largest })).committed);
    assert.equal((await registry.get('k0'))?.value.length, limits.registryValueBytesMax);
  });

  within('refuses everything once it is closed', async (world) => {
    const { registry, other } = world;
    const watching = new Seen(world, registry, await revisionOf(registry)).next();
    const ended = assert.rejects(watching, (error) => isStorageError(error, 'closed'));
    await world.pass(20);
    await registry.close();
    await registry.close();
    await ended;
    const calls: (() => Promise<unknown>)[] = [
      () => registry.get('ka'),
      () => registry.range(wholeRange),
      () => registry.transact({ compares: [], writes: [] }),
      () => registry.transact({ compares: [], writes: [put('ka', '1')] }),
      () => registry.grantLease(world.ttlMs),
      () => new Seen(world, registry, 0).next(),
    ];
    for (const call of calls)
      await assert.rejects(call, (error) => isStorageError(error, 'closed'));
    assert.equal(await other.get('ka'), undefined);
  });

  within('ends a call with the reason of its signal', async (world) => {
    const { registry } = world;
    const reason = new Error('no longer wanted');
    const options = { signal: AbortSignal.abort(reason) };
    const calls: (() => Promise<unknown>)[] = [
      () => registry.get('ka', options),
      () => registry.range(wholeRange, options),
      () => registry.transact({ compares: [], writes: [] }, options),
      () => registry.transact({ compares: [], writes: [put('ka', '1')] }, options),
      () => registry.grantLease(world.ttlMs, options),
      () => new Seen(world, registry, 0, options).next(),
    ];
    for (const call of calls) await assert.rejects(call, reason);
    assert.ok((await registry.transact({ compares: [], writes: [put('ka', '2')] })).committed);
  });
}

function leaseTests(within: Within): void {
  const hold = async (world: RegistryWorld, ...keys: string[]) => {
    const lease = await world.registry.grantLease(world.ttlMs);
    const outcome = await world.registry.transact({
      compares: keys.map((key) => ({ key, is: 'absent' })),
      writes: keys.map((key) => ({ ...put(key, 'held'), lease: lease.id })),
    });
    assert.ok(outcome.committed);
    return { lease, revision: outcome.revision };
  };

  within('takes the keys of a lease away as it is released', async (world) => {
    const { other } = world;
    const { lease, revision } = await hold(world, 'ka', 'kb');
    await write(other, ['kc', 'free']);
    assert.equal(lease.signal.aborted, false);
    await lease.release();
    await lease.release();
    assert.equal(lease.signal.aborted, true);
    assert.ok(lease.validUntilMs() < world.clock.monotonicMs());
    assert.equal(await other.get('ka'), undefined);
    const seen = await new Seen(world, other, revision).next(2);
    assert.deepEqual(seen.lines, ['kc=free', 'ka-,kb-']);
    assert.equal(await revisionOf(other), seen.last);
    await seen.end();
  });

  within('ends a lease that nobody renews', async (world) => {
    const { registry, other, ttlMs } = world;
    const { lease, revision } = await hold(world, 'ka');
    const validUntilMs = lease.validUntilMs();
    const guarded = {
      compares: [{ key: 'ka', is: 'at', revision } as const],
      writes: [put('kb', 'as its holder')],
    };
    assert.equal((await other.transact(guarded)).committed, true);
    await registry.close();
    const seen = await new Seen(world, other, revision).next(2);
    assert.deepEqual(seen.lines, ['kb=as its holder', 'ka-']);
    assert.ok(world.clock.monotonicMs() >= validUntilMs, 'kept for as long as it was promised');
    assert.equal(lease.ttlMs, ttlMs);
    assert.equal((await other.transact(guarded)).committed, false);
    await seen.end();
  });

  within('lets whoever reads see that a lease has run out', async (world) => {
    const { registry, other } = world;
    await hold(world, 'ka');
    await registry.close();
    const { entries, revision } = await other.range(wholeRange);
    assert.equal(entries.length, 1);
    for (let round = 0; (await other.get('ka')) !== undefined; round += 1) {
      assert.ok(round < 100);
      await world.pass(world.ttlMs / 10);
    }
    const after = await other.range(wholeRange);
    assert.deepEqual(after.entries, []);
    assert.ok(after.revision > revision);
  });

  within('keeps a lease that is renewed, and promises no more than that', async (world) => {
    const { clock, registry, other, ttlMs } = world;
    const before = clock.monotonicMs();
    const { lease } = await hold(world, 'ka');
    assert.ok(lease.validUntilMs() >= before + ttlMs);
    for (let tenth = 0; tenth < 25; tenth += 1) {
      await world.pass(ttlMs / 10);
      assert.ok(lease.validUntilMs() <= clock.monotonicMs() + ttlMs);
      assert.ok(lease.validUntilMs() > clock.monotonicMs());
    }
    assert.equal(lease.signal.aborted, false);
    assert.equal(text((await other.get('ka'))?.value), 'held');
    await registry.close();
    assert.equal(text((await other.get('ka'))?.value), 'held', 'closing releases nothing');
  });

  within('refuses a write under a lease that has ended, or never was', async (world) => {
    const { registry } = world;
    const { lease } = await hold(world, 'ka');
    await lease.release();
    for (const id of [lease.id, leaseId('4711')]) {
      const writes = [put('kb', 'free'), { ...put('kc', 'late'), lease: id }];
      await assert.rejects(registry.transact({ compares: [], writes }), (error) =>
        isStorageError(error, 'fenced'),
      );
    }
    assert.deepEqual((await registry.range(wholeRange)).entries, []);
    const lost = { compares: [{ key: 'ka', is: 'present' } as const], writes: [] };
    assert.equal((await registry.transact(lost)).committed, false);
  });

  within('frees a key that is written anew without the lease', async (world) => {
    const { lease } = await hold(world, 'ka', 'kb');
    await write(world.other, ['ka', 'free']);
    await lease.release();
    const { entries } = await world.registry.range(wholeRange);
    assert.deepEqual(
      entries.map(({ key, value }) => `${key}=${text(value)}`),
      ['ka=free'],
    );
  });
}

function watchTests(within: Within): void {
  within('tells the changes of a range, by transaction and in order', async (world) => {
    const { registry, other } = world;
    await write(registry, ['ka', 'before']);
    const from = await revisionOf(registry);
    const seen = new Seen(world, registry, from, { range: { from: 'ka', to: 'kc' } });
    await write(other, ['ka', '1'], ['kb', '2'], ['kc', 'outside']);
    await write(registry, ['kz', 'outside']);
    await write(registry, ['kx', undefined]);
    const revision = await write(registry, ['ka', undefined], ['kc', undefined]);
    await seen.next(2);
    assert.deepEqual(seen.lines, ['ka=1,kb=2', 'ka-']);
    assert.equal(seen.last, revision);
    await write(other, ['kb', 'later']);
    assert.equal((await seen.next()).lines.at(-1), 'kb=later');
    await seen.end();
  });

  within('starts where it is told to, also behind what is to come', async (world) => {
    const { registry } = world;
    const first = await write(registry, ['ka', '1']);
    const second = await write(registry, ['ka', '2']);
    const past = await new Seen(world, registry, first - 1).next(2);
    assert.deepEqual(past.lines, ['ka=1', 'ka=2']);
    await past.end();
    const future = new Seen(world, registry, second + 1);
    await write(registry, ['ka', '3']);
    await write(registry, ['ka', '4']);
    assert.deepEqual((await future.next()).lines.length, 1);
    assert.ok(future.last > second + 1);
    await future.end();
  });

  within('loses nothing and repeats nothing while writes go on', async (world) => {
    const { registry, other } = world;
    const from = await revisionOf(registry);
    const written: number[] = [];
    const writers = [registry, other].map(async (writer, id) => {
      for (let step = 0; step < 60; step += 1)
        written.push(await write(writer, [`k${id}`, String(step)], [`kx${step % 3}`, String(id)]));
    });
    const seen: Seen = new Seen(world, other, from);
    const half = seen.next(50);
    const slow = new Seen(world, registry, from).next(120);
    await Promise.all([...writers, half]);
    await seen.end();
    const rest = await new Seen(world, registry, seen.last).next(70);
    await rest.end();
    const revisions = [...seen.transactions, ...rest.transactions].map(([one]) => one?.revision);
    const expected = written.toSorted((a, b) => a - b);
    assert.deepEqual(revisions, expected);
    assert.deepEqual(
      (await slow).transactions.map(([one]) => one?.revision),
      expected,
    );
    await (await slow).end();
  });

  within('says so where the changes are forgotten', async (world) => {
    const { registry } = world;
    const old = await write(registry, ['ka', '1']);
    const quiet = new Seen(world, registry, old, { range: prefixRange('kq') });
    await write(registry, ['ka', '2'], ['kq', '2']);
    await quiet.next();
    const kept = quiet.next();
    await world.compact();
    const late = new Seen(world, registry, old);
    await assert.rejects(late.next(), (error) => isStorageError(error, 'compacted'));
    const { entries, revision } = await registry.range(wholeRange);
    assert.ok(entries.some(({ key, value }) => key === 'ka' && text(value) === '2'));
    const anew = new Seen(world, registry, revision);
    await write(registry, ['kq', '3']);
    assert.deepEqual((await anew.next()).lines, ['kq=3']);
    assert.deepEqual((await kept).lines, ['kq=2', 'kq=3'], 'who had seen all has lost nothing');
    await anew.end();
    await quiet.end();
  });

  within('ends with the reason of its signal', async (world) => {
    const stop = new AbortController();
    const seen = new Seen(world, world.registry, await revisionOf(world.registry), stop);
    const next = seen.next();
    await world.pass(20);
    const reason = new Error('seen enough');
    stop.abort(reason);
    await assert.rejects(next, reason);
  });
}
