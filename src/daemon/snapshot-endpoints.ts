/** The admin API of snapshots, clones, templates and of the space that vDisks take. */

import { StorageError } from '../core/errors.ts';
import type { Endpoints, Query } from '../frontend/admin/server.ts';
import type { VdiskDiff } from '../frontend/admin/vdisk-diff.ts';
import type { VdiskSnapshots } from '../frontend/admin/vdisk-snapshots.ts';
import type { VmSnapshots } from '../frontend/admin/vm-snapshots.ts';
import { walkVdisks } from '../frontend/admin/vdisks.ts';
import type { ClusterCare } from '../router/cluster-care.ts';
import type { Attributes, FileSystem } from '../ports/file-system.ts';
import type { ObjectId } from '../core/units.ts';
import type { VdiskReport } from './endpoints.ts';

export interface SnapshotEndpointsDeps {
  readonly fileSystem: FileSystem;
  readonly snapshots: VdiskSnapshots;
  readonly vms: VmSnapshots;
  readonly diff: VdiskDiff;
  readonly care: Pick<ClusterCare, 'ask'>;
  readonly report: (path: string, attributes: Attributes) => Promise<VdiskReport>;
  /** Inside the vPool, by the name of the parameter that holds it. */
  readonly pathOf: (query: Query, parameter?: string) => string;
  readonly find: (path: string) => Promise<Attributes>;
  readonly objectOf: (disk: Attributes) => Promise<ObjectId>;
  /** `read_only` where the vPool is. */
  readonly refuseReadOnly: () => void;
}

type Change = (act: (path: string, query: Query) => Promise<object>) => Endpoints[string];

const nameOf = (query: Query) => query.get('name') ?? '';

export function snapshotEndpoints(deps: SnapshotEndpointsDeps): Endpoints {
  const { fileSystem, snapshots, care, report, pathOf, find, objectOf, refuseReadOnly } = deps;
  /** A change, by the path that it is made to. */
  const change: Change = (act) => async (query) => {
    refuseReadOnly();
    return act(pathOf(query), query);
  };
  return {
    ...vmEndpoints(deps, change),
    'GET /v1/vdisk/snapshots': async (query) => {
      const path = pathOf(query);
      return { path, snapshots: await snapshots.list(path) };
    },
    ...comparing(deps),
    'POST /v1/vdisk/snapshot/create': change(async (path, query) => ({
      ...{ path, ...(await snapshots.create(path, query.get('name') ?? undefined)) },
    })),
    'POST /v1/vdisk/snapshot/delete': change(async (path, query) => {
      await snapshots.delete(path, nameOf(query));
      return { path, name: nameOf(query) };
    }),
    'POST /v1/vdisk/snapshot/rollback': change(async (path, query) => {
      const force = query.get('force') === '1';
      const before = await snapshots.rollBack(path, nameOf(query), { force });
      return { ...(await report(path, await find(path))), rolledBackTo: nameOf(query), before };
    }),
    'POST /v1/vdisk/clone': change(async (path, query) => {
      const to = pathOf(query, 'to');
      const clone = await snapshots.clone(path, query.get('name') ?? undefined, to);
      return { ...(await report(to, clone)), clonedFrom: path };
    }),
    'POST /v1/vdisk/flatten': change(async (path) => ({
      ...{ path, ...(await snapshots.flatten(path)) },
    })),
    'POST /v1/vdisk/compact': change(async (path, query) => {
      const id = await objectOf(await find(path));
      const how = query.get('how') === 'plan' ? 'plan' : 'run';
      const { compaction } = await care.ask(id, { do: 'compact', how });
      if (!compaction) throw new StorageError('failed', 'the owner gave no answer');
      return { path, ...compaction };
    }),
    'GET /v1/vdisk/space': async (query) => {
      const { space } = await care.ask(await objectOf(await find(pathOf(query))), { do: 'space' });
      return { ...space };
    },
    'POST /v1/template/create': change(async (path) => {
      await snapshots.makeTemplate(path);
      return report(path, await find(path));
    }),
    'POST /v1/template/delete': change(async (path) => {
      await snapshots.deleteTemplate(path);
      return { path };
    }),
    'GET /v1/templates': async () => {
      const templates: (VdiskReport & { readonly clones: number })[] = [];
      for await (const { path, attributes } of walkVdisks(fileSystem)) {
        const template = await snapshots.template(attributes);
        if (template) templates.push({ ...(await report(path, attributes)), ...template });
      }
      return { templates };
    },
  };
}

function vmEndpoints({ vms, pathOf }: SnapshotEndpointsDeps, change: Change): Endpoints {
  return {
    'GET /v1/vm/snapshots': async (query) => {
      const path = pathOf(query);
      return { path, snapshots: await vms.list(path) };
    },
    'POST /v1/vm/snapshot/create': change(async (path, query) => ({
      ...{ path, ...(await vms.create(path, query.get('name') ?? undefined)) },
    })),
    'POST /v1/vm/snapshot/delete': change(async (path, query) => {
      await vms.delete(path, nameOf(query));
      return { path, name: nameOf(query) };
    }),
    'POST /v1/vm/snapshot/rollback': change(async (path, query) => {
      const force = query.get('force') === '1';
      const { before } = await vms.rollBack(path, nameOf(query), { force });
      return { path, rolledBackTo: nameOf(query), before };
    }),
  };
}

function comparing({ snapshots, diff, pathOf, refuseReadOnly }: SnapshotEndpointsDeps): Endpoints {
  return {
    'GET /v1/vdisk/snapshot': async (query) => {
      const path = pathOf(query);
      return { path, ...(await snapshots.show(path, nameOf(query))) };
    },
    'GET /v1/vdisk/diff': async (query) => {
      const to = query.get('to') ?? undefined;
      // As it is now is a snapshot as well.
      if (to === undefined) refuseReadOnly();
      return diff.lines(pathOf(query), query.get('since') ?? '', to);
    },
  };
}
