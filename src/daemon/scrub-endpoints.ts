/** The admin API of the vPool's scrub. */

import { StorageError } from '../core/errors.ts';
import { MiB } from '../core/units.ts';
import type { Endpoints, Query } from '../frontend/admin/server.ts';
import type { Scrub } from './scrub.ts';

/** Felt by no guest, and a TiB in five hours. */
const defaultBytesPerSecond = 64 * MiB;
const bytesPerSecondMin = 64 * 1024;

export interface ScrubEndpointsDeps {
  readonly scrub: Scrub;
  readonly vpool: string;
  /** `read_only` where the vPool is. */
  readonly refuseReadOnly: () => void;
}

export function scrubEndpoints({ scrub, vpool, refuseReadOnly }: ScrubEndpointsDeps): Endpoints {
  const checkName = (query: Query) => {
    const name = query.get('name');
    if (name !== vpool)
      throw new StorageError('not_found', `no vPool ${name} here; this is ${vpool}`);
  };
  return {
    'POST /v1/vpool/scrub': async (query) => {
      checkName(query);
      const isRepair = query.get('repair') === '1';
      if (isRepair) refuseReadOnly();
      const bytesPerSecond = Number(query.get('rate') ?? defaultBytesPerSecond);
      if (!(bytesPerSecond >= bytesPerSecondMin))
        throw new StorageError('invalid', `rate: allowed is 64KiB or more for each second`);
      await scrub.start({ isRepair, bytesPerSecond });
      return scrub.report(0);
    },
    'GET /v1/vpool/scrub': async (query) => {
      checkName(query);
      return scrub.report(Number(query.get('behind') ?? 0));
    },
    'POST /v1/vpool/scrub/stop': async (query) => {
      checkName(query);
      await scrub.stop();
      return scrub.report(Number(query.get('behind') ?? 0));
    },
  };
}
