/**
 * The name under which a folder shows what was kept of its files. It can be looked up where there
 * is anything, is in no listing, and is nobody's to make, to remove or to rename.
 */

import { StorageError } from '../core/errors.ts';
import type { FileName } from '../core/units.ts';
import { fileName } from '../core/units.ts';
import { snapshotsFolder } from '../registry/namespace.ts';

/** Of an entry that a user makes, removes or renames: `not_permitted`, `invalid`, `name_too_long`. */
export function changeableName(rawName: string): FileName {
  const name = fileName(rawName);
  if (name === snapshotsFolder)
    throw new StorageError('not_permitted', '.snapshots comes and goes with the snapshots in it');
  return name;
}
