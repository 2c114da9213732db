import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { hostId } from '../../../src/core/units.ts';
import { lastByte } from '../../../src/ports/object-locks.ts';
import type { WantedLock } from '../../../src/router/locks/lock-table.ts';
import { LockTable } from '../../../src/router/locks/lock-table.ts';

const bytes = 24;
const [a, b] = [hostId('a'), hostId('b')];
const whole = { start: 0n, end: lastByte };
const one = { host: a, session: 1, kind: 'posix', owner: 1n, pid: 10, ...whole } as const;
const other = { ...one, owner: 2n } as const;
const remote = { ...one, host: b } as const;

type Type = 'read' | 'write' | undefined;

/** One flag for each owner, kind and byte; the last byte stands for all behind it. */
class Model {
  readonly #bytes = new Map<string, Type[]>();

  set({ host, owner, kind, type, start, end }: WantedLock): boolean {
    const key = `${host} ${owner} ${kind}`;
    const own = this.#bytes.get(key) ?? new Array<Type>(bytes + 1).fill(undefined);
    this.#bytes.set(key, own);
    const range = [Number(start), end === lastByte ? bytes + 1 : Number(end) + 1] as const;
    const others = [...this.#bytes].filter(([name]) => name !== key && name.endsWith(kind));
    const isRefused = others.some(([, theirs]) =>
      theirs
        .slice(...range)
        .some((held) => held && type !== 'none' && (held === 'write' || type === 'write')),
    );
    if (isRefused && kind === 'flock' && own[0] !== type) own.fill(undefined);
    if (!isRefused) own.fill(type === 'none' ? undefined : type, ...range);
    return !isRefused;
  }

  /** Ranges of one type, as long as they go. */
  ranges(): string[] {
    return [...this.#bytes].flatMap(([key, held]) =>
      held.flatMap((type, at) => {
        if (type === undefined || held[at - 1] === type) return [];
        let end = at;
        while (held[end + 1] === type) end += 1;
        return [`${key} ${type} ${at}-${end === bytes ? 'end' : end}`];
      }),
    );
  }
}

const rangesOf = (table: LockTable) =>
  table.locks.map(
    ({ host, owner, kind, type, start, end }) =>
      `${host} ${owner} ${kind} ${type} ${start}-${end === lastByte ? 'end' : end}`,
  );

const requests: fc.Arbitrary<WantedLock> = fc
  .record({
    host: fc.constantFrom(a, b),
    owner: fc.constantFrom(1n, 2n),
    kind: fc.constantFrom('posix' as const, 'flock' as const),
    type: fc.constantFrom('read' as const, 'write' as const, 'none' as const),
    bounds: fc.tuple(fc.nat(bytes - 1), fc.nat(bytes)),
  })
  .map(({ kind, bounds: [start, length], ...rest }) => {
    const end = start + length >= bytes ? lastByte : BigInt(start + length);
    const range = kind === 'flock' ? whole : { start: BigInt(start), end };
    return { ...rest, kind, ...range, session: 1, pid: 1 };
  });

describe('a lock table', () => {
  test('has what a model of single bytes has, in as few ranges', () => {
    fc.assert(
      fc.property(fc.array(requests, { maxLength: 40 }), (asked) => {
        const table = new LockTable();
        const model = new Model();
        for (const wanted of asked) {
          const conflict = table.set(wanted);
          assert.equal(conflict === undefined, model.set(wanted));
          assert.deepEqual(rangesOf(table).toSorted(), model.ranges().toSorted());
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('says which lock stands in the way', () => {
    const table = new LockTable();
    table.set({ ...one, type: 'write', start: 10n, end: 19n });
    const conflict = table.conflict({ ...other, type: 'read', start: 0n, end: 10n });
    assert.deepEqual(conflict, { ...one, type: 'write', start: 10n, end: 19n });
    assert.equal(table.conflict({ ...other, type: 'read', start: 0n, end: 9n }), undefined);
    assert.equal(table.conflict({ ...other, type: 'none' }), undefined);
  });

  test('tells owners of one number on two hosts apart', () => {
    const table = new LockTable();
    assert.equal(table.set({ ...one, type: 'write' }), undefined);
    assert.notEqual(table.set({ ...remote, type: 'write' }), undefined);
  });

  test('lets an owner ask again in its next session, in place of what it had', () => {
    const table = new LockTable();
    table.set({ ...one, type: 'write' });
    assert.equal(table.set({ ...one, session: 2, type: 'write', start: 0n, end: 9n }), undefined);
    assert.deepEqual(
      table.locks.map(({ session, start }) => [session, start]),
      [
        [1, 10n],
        [2, 0n],
      ],
    );
    table.remove(({ session }) => session === 1);
    assert.deepEqual(
      table.locks.map(({ end }) => end),
      [9n],
    );
  });

  test('drops a flock whose conversion is refused, and keeps one that is asked for again', () => {
    const table = new LockTable();
    const [mine, theirs] = [
      { ...one, kind: 'flock' } as const,
      { ...other, kind: 'flock' } as const,
    ];
    table.set({ ...mine, type: 'read' });
    table.set({ ...theirs, type: 'read' });
    assert.notEqual(table.set({ ...mine, type: 'write' }), undefined);
    assert.deepEqual(
      table.locks.map(({ owner }) => owner),
      [2n],
    );
    assert.equal(table.set({ ...theirs, type: 'write' }), undefined);
  });
});
