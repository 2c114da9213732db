/** Bugs in who serves what: leases, owners, moves, forwarding. */

import type { Mutant } from './mutant.ts';

const routed = 'router/routed-object.ts';

export const routerMutants: readonly Mutant[] = [
  {
    name: 'epoch-uncompared',
    breaks: 'a commit does not compare the epoch',
    changes: [
      {
        file: 'registry/object-records.ts',
        find: 'if (record?.epoch === tenure) return record;',
        put: 'if (record) return record;',
      },
    ],
  },
  {
    name: 'record-uncompared',
    breaks: 'a transaction does not compare the record that it was made from',
    changes: [
      {
        file: 'registry/object-records.ts',
        find: 'compares: [isSame, ...compares], writes',
        put: 'compares: isSame.key ? compares : [], writes',
      },
    ],
  },
  {
    name: 'owner-not-gone',
    breaks: 'an object is taken without a look at the lease of its owner',
    changes: [
      {
        file: 'registry/object-records.ts',
        find: 'return this.#replace(record, state, [hostIsGone(owner), ...guard]);',
        put: 'return this.#replace(record, state, guard);',
      },
      {
        file: 'router/ownership.ts',
        find: '(await hosts.find(record.owner)) ?? (await this.#replicaOf(record))',
        put: '(this.#deps.signal.aborted && (await hosts.find(record.owner))) || (await this.#replicaOf(record))',
      },
    ],
  },
  {
    name: 'tail-of-another',
    breaks: "an object is taken whose last changes are on another host's SSD alone",
    changes: [
      {
        file: 'registry/object-records.ts',
        find: "return tail === 'backend' || (typeof tail === 'object' && tail.host === host);",
        put: 'return tail !== host;',
      },
    ],
  },
  {
    name: 'margin-zero',
    breaks: 'a lease is relied on to its very end',
    changes: [
      {
        file: 'router/members/host-lease.ts',
        find: 'this.#lease.validUntilMs() - this.#marginMs',
        put: 'this.#lease.validUntilMs()',
      },
    ],
  },
  {
    name: 'lost-lease-used',
    breaks: 'a host serves until it hears that its lease is lost',
    changes: [
      {
        file: 'router/members/host-lease.ts',
        find: 'return this.#clock.monotonicMs() < this.freshUntilMs();',
        put: 'return !this.lost.aborted;',
      },
    ],
  },
  {
    name: 'forwarded-unconfirmed',
    breaks: 'what other hosts are answered does not wait for a fresh lease',
    changes: [
      {
        file: routed,
        find: 'const value = await this.#count(result);\n      backing.lease.assertFresh();',
        put: 'const value = await this.#count(result);',
      },
      {
        file: routed,
        find: 'backing.lease.assertFresh();\n      result = request',
        put: 'result = request',
      },
      {
        file: routed,
        find: 'if (!isPending(result)) {\n        backing.lease.assertFresh();',
        put: 'if (!isPending(result)) {',
      },
    ],
  },
  {
    name: 'local-unconfirmed',
    breaks: "acknowledgements to a host's own users do not wait for a fresh lease",
    changes: [
      {
        file: routed,
        find: 'if (!backing.lease.isFresh()) await backing.lease.fresh();',
        put: '',
      },
    ],
  },
  {
    name: 'copy-unsealed',
    breaks: 'a takeover does not seal the copy that it begins with',
    changes: [
      {
        file: 'router/ownership.ts',
        find: 'await replicas.seal(record.id, tail.copy);',
        put: 'void replicas;',
      },
    ],
  },
  {
    name: 'late-attempt-taken',
    breaks: 'an attempt that comes behind a later one of its sender is carried out',
    changes: [
      {
        file: 'router/peers/request-order.ts',
        find: "if (age < 0) throw new StorageError('unavailable', 'a later attempt of this request has come');",
        put: 'if (age < 0) return action();',
      },
    ],
  },
  {
    name: 'attempts-side-by-side',
    breaks: 'a new attempt does not wait for the end of the old one',
    changes: [
      {
        file: 'router/peers/request-order.ts',
        find: 'batch.older ? batch.older.then(action) : action()',
        put: 'action()',
      },
    ],
  },
  {
    name: 'flush-not-forwarded',
    breaks: 'a flush does not reach the owner',
    changes: [
      {
        file: 'router/peers/remote-object.ts',
        find: '  flush(): Promise<void> {\n    return this.#ask({ kind: peerKind.flush }, nothing);',
        put: '  flush(): Promise<void> {\n    return Promise.resolve();',
      },
    ],
  },
  {
    name: 'append-made-twice',
    breaks: 'an append whose answer was lost is made again',
    changes: [
      {
        file: routed,
        find: 'tried !== undefined && (await holds(object, tried, data))',
        put: 'holds === undefined',
      },
    ],
  },
];
