/** Errors as the kernel knows them (asm-generic/errno-base.h, errno.h). The map is total. */

import { constants } from 'node:os';
import type { ErrorCode } from '../../core/errors.ts';
import { isStorageError } from '../../core/errors.ts';

export const { errno } = constants;

const errnoOf = {
  not_owner: errno.EIO,
  fenced: errno.EIO,
  unavailable: errno.EAGAIN,
  unknown_outcome: errno.EIO,
  compacted: errno.EIO,
  corrupt: errno.EIO,
  failed: errno.EIO,
  no_space: errno.ENOSPC,
  read_only: errno.EROFS,
  busy: errno.EBUSY,
  closed: errno.EIO,
  invalid: errno.EINVAL,
  unsupported: errno.EOPNOTSUPP,
  too_large: errno.EFBIG,
  not_permitted: errno.EPERM,
  access_denied: errno.EACCES,
  not_found: errno.ENOENT,
  exists: errno.EEXIST,
  not_empty: errno.ENOTEMPTY,
  not_directory: errno.ENOTDIR,
  is_directory: errno.EISDIR,
  name_too_long: errno.ENAMETOOLONG,
  too_many_links: errno.EMLINK,
  no_attribute: errno.ENODATA,
  no_data: errno.ENXIO,
} as const satisfies Record<ErrorCode, number>;

/** What is no `StorageError` is a bug, which the caller of the file system sees as EIO. */
export function toErrno(error: unknown): number {
  return isStorageError(error) ? errnoOf[error.code] : errno.EIO;
}
