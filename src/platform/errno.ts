/** errno numbers of Linux (asm-generic/errno-base.h, errno.h) as errors of operation. */

import { constants } from 'node:os';
import type { ErrorCode } from '../core/errors.ts';
import { StorageError } from '../core/errors.ts';

const codes: Readonly<Partial<Record<string, ErrorCode>>> = {
  ENOENT: 'not_found',
  EEXIST: 'exists',
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EROFS: 'read_only',
  EWOULDBLOCK: 'busy',
  EAGAIN: 'busy',
  EBUSY: 'busy',
  ENOTEMPTY: 'not_empty',
  ENOTDIR: 'not_directory',
  EISDIR: 'is_directory',
  EACCES: 'access_denied',
  EPERM: 'not_permitted',
  ENAMETOOLONG: 'name_too_long',
  EFBIG: 'too_large',
};

const names = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** `what` says what was tried, as `write of the journal`. */
export function errnoError(errno: number, what: string, path: string): StorageError {
  const name = errnoName(errno);
  return new StorageError(codes[name] ?? 'failed', `${what} failed: ${name}`, {
    detail: { path },
  });
}

/** The same for what node:fs throws. */
export function translateFsError(error: unknown, what: string, path: string): StorageError {
  if (error instanceof StorageError) return error;
  const { code } = error as NodeJS.ErrnoException;
  return new StorageError(
    codes[code ?? ''] ?? 'failed',
    `${what} failed: ${code ?? String(error)}`,
    {
      cause: error,
      detail: { path },
    },
  );
}
