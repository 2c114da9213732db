/** Lineage over a registry, for file systems whose volumes nobody opens. */

import { Lineage } from '../../src/frontend/lineage.ts';
import type { Registry } from '../../src/ports/registry.ts';
import { SnapshotRecords } from '../../src/registry/snapshot-records.ts';

export function lineageOf(registry: Registry): Lineage {
  return new Lineage({ snapshots: new SnapshotRecords(registry), collect() {} });
}
