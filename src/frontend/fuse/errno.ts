/** Errors as the kernel knows them (asm-generic/errno-base.h, errno.h). The map is total. */

import type { ErrorCode } from '../../core/errors.ts';
import { isStorageError } from '../../core/errors.ts';

export const errno = { eio: 5, einval: 22, enosys: 38, enotty: 25, erange: 34, eopnotsupp: 95 };

const errnoOf = {
  not_owner: 5,
  fenced: 5,
  unavailable: 11,
  unknown_outcome: 5,
  corrupt: 5,
  failed: 5,
  no_space: 28,
  read_only: 30,
  busy: 16,
  closed: 5,
  invalid: 22,
  unsupported: 95,
  too_large: 27,
  not_permitted: 1,
  access_denied: 13,
  not_found: 2,
  exists: 17,
  not_empty: 39,
  not_directory: 20,
  is_directory: 21,
  name_too_long: 36,
  too_many_links: 31,
  no_attribute: 61,
  no_data: 6,
} as const satisfies Record<ErrorCode, number>;

export function toErrno(error: unknown): number {
  return isStorageError(error) ? errnoOf[error.code] : errno.eio;
}
