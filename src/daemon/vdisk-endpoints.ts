/** The admin API of a vDisk's life: create, resize, rename, delete. */

import type { Endpoints, Query } from '../frontend/admin/server.ts';
import type { VdiskChanges } from '../frontend/admin/vdisk-changes.ts';
import type { Attributes } from '../ports/file-system.ts';
import type { VdiskReport } from './endpoints.ts';

export interface VdiskEndpointsDeps {
  readonly changes: VdiskChanges;
  readonly report: (path: string, attributes: Attributes) => Promise<VdiskReport>;
  /** Inside the vPool, by the name of the parameter that holds it. */
  readonly pathOf: (query: Query, parameter?: string) => string;
  /** `read_only` where the vPool is. */
  readonly refuseReadOnly: () => void;
}

const isSet = (query: Query, name: string) => query.get(name) === '1';
const sizeOf = (query: Query) => Number(query.get('size') ?? Number.NaN);

export function vdiskEndpoints({
  changes,
  report,
  pathOf,
  refuseReadOnly,
}: VdiskEndpointsDeps): Endpoints {
  return {
    'POST /v1/vdisk/create': async (query) => {
      refuseReadOnly();
      const path = pathOf(query);
      return report(path, await changes.create(path, sizeOf(query)));
    },
    'POST /v1/vdisk/resize': async (query) => {
      refuseReadOnly();
      const path = pathOf(query);
      const lost = await changes.resize(path, sizeOf(query), { force: isSet(query, 'force') });
      return { ...(await report(path, await changes.find(path))), ...lost };
    },
    'POST /v1/vdisk/rename': async (query) => {
      refuseReadOnly();
      const [path, newPath] = [pathOf(query), pathOf(query, 'to')];
      const how = isSet(query, 'replace') ? 'replace' : 'no-replace';
      await changes.rename(path, newPath, how);
      return { ...(await report(newPath, await changes.find(newPath))), renamedFrom: path };
    },
    'POST /v1/vdisk/delete': async (query) => {
      refuseReadOnly();
      const path = pathOf(query);
      return { path, ...(await changes.remove(path)) };
    },
  };
}
