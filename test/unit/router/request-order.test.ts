import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import { RequestOrder } from '../../../src/router/peers/request-order.ts';

const a = hostId('a');
const turn = () => new Promise((resolve) => setImmediate(resolve));
const [id, otherId] = [objectId('6'.repeat(32)), objectId('7'.repeat(32))];
const at = (session: number, generation: number, of = id) => ({ id: of, session, generation });

/** An action that ends when it is told to, and notes when it began. */
function held(began: string[], name: string) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const action = () => {
    began.push(name);
    return promise;
  };
  return { action, end: resolve };
}

describe('attempts of one sender', () => {
  test('of one generation run side by side', async () => {
    const order = new RequestOrder();
    const began: string[] = [];
    const [first, second] = [held(began, 'first'), held(began, 'second')];
    const both = [order.run(a, at(1, 0), first.action), order.run(a, at(1, 0), second.action)];
    await turn();
    assert.deepEqual(began, ['first', 'second']);
    first.end();
    second.end();
    await Promise.all(both);
  });

  test('begin when all of the generations before have ended', async () => {
    const order = new RequestOrder();
    const began: string[] = [];
    const [old, middle, late] = [held(began, 'old'), held(began, 'middle'), held(began, 'late')];
    const runs = [
      order.run(a, at(1, 0), old.action),
      order.run(a, at(1, 1), middle.action),
      order.run(a, at(1, 2), late.action),
    ];
    middle.end();
    late.end();
    await turn();
    assert.deepEqual(began, ['old']);
    old.end();
    await Promise.all(runs);
    assert.deepEqual(began, ['old', 'middle', 'late']);
  });

  test('of two hosts that wait for each other go on where they are of other objects', async () => {
    const [here, there] = [new RequestOrder(), new RequestOrder()];
    const b = hostId('b');
    const fetched = Promise.withResolvers<void>();
    const opened = Promise.withResolvers<void>();
    // Each host has a request of the other under way, and asks that one something newer for it.
    const moved = here.run(a, at(1, 0), () => fetched.promise);
    const held = there.run(b, at(1, 0, otherId), () => opened.promise);
    const asking = [
      there.run(b, at(1, 1), () => fetched.resolve()),
      here.run(a, at(2, 0, otherId), () => opened.resolve()),
    ];
    await Promise.all([moved, held, ...asking]);
  });

  test('that come after a newer one are refused, of whatever session', async () => {
    const order = new RequestOrder();
    await order.run(a, at(5, 3), () => {});
    for (const old of [at(5, 2), at(4, 9)])
      await assert.rejects(
        async () => order.run(a, old, () => assert.fail('it ran')),
        (error) => isStorageError(error, 'unavailable'),
      );
    await assert.rejects(async () => order.run(a, at(5, 2, otherId), () => {}), /later attempt/);
    await order.run(a, at(6, 0), () => {});
    await order.run(hostId('b'), at(1, 0), () => {});
  });

  test('that end at once cost no promise, and hold nobody up', () => {
    const order = new RequestOrder();
    assert.equal(
      order.run(a, at(1, 0), () => 'now'),
      'now',
    );
    const failing = () => {
      throw new Error('no');
    };
    assert.throws(() => order.run(a, at(1, 0), failing), /no/);
    assert.equal(
      order.run(a, at(1, 1), () => 'next'),
      'next',
    );
  });

  test('that have waited for older ones leave nothing to wait for', async () => {
    const order = new RequestOrder();
    const old = held([], 'old');
    const runs = [order.run(a, at(1, 0), old.action), order.run(a, at(1, 1), () => 'waited')];
    old.end();
    await Promise.all(runs);
    assert.equal(
      order.run(a, at(1, 1), () => 'now'),
      'now',
    );
  });

  test('that fail hold nobody up', async () => {
    const order = new RequestOrder();
    const failing = order.run(a, at(1, 0), () => Promise.reject(new Error('no')));
    const next = order.run(a, at(1, 1), () => 'done');
    await assert.rejects(async () => failing, /no/);
    assert.equal(await next, 'done');
  });
});
