/** All keys of a prefix, a page at a time: each page is of one moment, the whole is not. */

import type { KeyValue, Registry } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';

const keysPerPage = 200;

export async function* scan(registry: Registry, prefix: string): AsyncGenerator<KeyValue> {
  const range = prefixRange(prefix);
  for (let { from } = range; ; ) {
    const { entries } = await registry.range({ from, to: range.to }, { limit: keysPerPage });
    yield* entries;
    const last = entries.at(-1);
    if (last === undefined || entries.length < keysPerPage) return;
    from = `${last.key}\0`;
  }
}
