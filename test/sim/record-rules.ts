/**
 * What no transaction may do to the records of objects and to heads, whoever makes it: the first two of the
 * things that always hold, looked at where they are decided.
 */

import type { ObjectId } from '../../src/core/units.ts';
import { decodeHead } from '../../src/format/head.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import type { Transaction } from '../../src/ports/registry.ts';
import type { MemoryStore } from '../../src/registry/memory-store.ts';
import type { ObjectRecord } from '../../src/registry/object-records.ts';
import { decodeObject } from '../../src/registry/object-records.ts';
import { Violation } from './history.ts';

/** To be called before the transaction happens; what it gives, once it has been committed. */
export function recordRules(
  host: string,
  { writes }: Transaction,
  store: MemoryStore,
  checksum: Checksum,
): () => void {
  const checks = writes.map((write) => {
    if (!('put' in write)) return undefined;
    const { key, put } = write;
    const id = key.slice(key.startsWith('hv') ? 2 : 1) as ObjectId;
    const before = store.get(`o${id}`);
    if (!before) return undefined;
    const old = decodeObject(id, before.value, before.revision);
    if (key.startsWith('hv')) return checkHead(decodeHead(put, checksum).epoch, old);
    if (!key.startsWith('o')) return undefined;
    return checkRecord(host, old, decodeObject(id, put, 0), (other) => !!store.get(`H${other}`));
  });
  const wrong = checks.find((check) => check !== undefined);
  return () => {
    if (wrong !== undefined) throw new Violation(`host ${host} ${wrong}`);
  };
}

function checkHead(epoch: number, { id, epoch: now }: ObjectRecord): string | undefined {
  return epoch === now ? undefined : `commits a head of epoch ${epoch} of ${id}, which has ${now}`;
}

function checkRecord(
  host: string,
  old: ObjectRecord,
  next: ObjectRecord,
  isHere: (host: string) => boolean,
): string | undefined {
  const { id, owner, epoch, tail, kind } = old;
  if (next.epoch < epoch) return `brings ${id} from epoch ${epoch} back to ${next.epoch}`;
  if (next.owner === owner) return undefined;
  if (next.epoch === epoch) return `changes the owner of ${id} within a tenure`;
  if (host === owner) return undefined;
  if (isHere(owner)) return `takes ${id} from ${owner}, which is a member of the vPool`;
  const isTakeable =
    kind === 'file' || tail === 'backend' || (typeof tail === 'object' && tail.host === next.owner);
  return isTakeable ? undefined : `takes ${id}, whose last changes it has not`;
}
