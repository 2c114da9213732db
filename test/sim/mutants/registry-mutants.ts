/** Bugs in the client of the registry, in names, and in small files. */

import type { Mutant } from './mutant.ts';

export const registryMutants: readonly Mutant[] = [
  {
    name: 'token-uncompared',
    breaks: 'a transaction whose answer was lost may still happen later',
    changes: [
      {
        file: 'registry/exactly-once.ts',
        find: "compares: [...compares, { key: slot.key, is: 'at', revision } as const],",
        put: 'compares: revision < 0 ? [] : compares,',
      },
    ],
  },
  {
    name: 'lost-answer-repeated',
    breaks: 'a transaction whose answer was lost is made again as if it had not happened',
    changes: [
      {
        file: 'registry/exactly-once.ts',
        find: "return (await this.#settle(call, revision, token)) ?? 'never';",
        put: "await this.#settle(call, revision, token);\n    return 'never';",
      },
    ],
  },
  {
    name: 'names-kept',
    breaks: 'names stay in memory over a watch that broke',
    changes: [{ file: 'registry/cached-registry.ts', find: '    this.#cache.clear();\n', put: '' }],
  },
  {
    name: 'overtaken-read-kept',
    breaks: 'a read of names is kept although a change has overtaken it',
    changes: [
      {
        file: 'registry/key-cache.ts',
        find: 'if (!result || result.revision < notBefore) return;',
        put: 'if (!result || notBefore < 0) return;',
      },
    ],
  },
  {
    name: 'own-change-unseen',
    breaks: "a host's names in memory miss its own changes",
    changes: [
      {
        file: 'registry/cached-registry.ts',
        find: "this.#cache.apply({ key, revision, value }, 'own');",
        put: 'void value;',
      },
    ],
  },
  {
    name: 'manifest-first',
    breaks: "a small file's manifest is committed before its pieces are stored",
    changes: [
      {
        file: 'file/committer.ts',
        find: 'await this.#deps.store.put(key, body, { signal: this.#signal });',
        put: 'this.#deps.store.put(key, body, { signal: this.#signal }).catch(() => {});',
      },
    ],
  },
];
