/** Lineage and snapshots over a registry, for file systems whose volumes nobody opens. */

import { KeptFiles } from '../../src/frontend/kept-files.ts';
import { Lineage } from '../../src/frontend/lineage.ts';
import { SimulatedClock } from '../../src/platform/simulated-clock.ts';
import type { Registry } from '../../src/ports/registry.ts';
import { SnapshotRecords } from '../../src/registry/snapshot-records.ts';
import { memoryObjects } from './memory-objects.ts';

export function noKeptFiles(): KeptFiles {
  const view = () => Promise.reject(new Error('nobody reads a snapshot'));
  return new KeptFiles({ objects: memoryObjects(), view, clock: new SimulatedClock() });
}

export function lineageOf(registry: Registry): Lineage {
  const care = { ask: () => Promise.reject(new Error('nobody serves a volume')) };
  return new Lineage({ snapshots: new SnapshotRecords(registry), care, collect() {} });
}
