/** Errors of a file system as errors of an object store. Trouble of a kind unknown may pass. */

import { type ErrorCode, StorageError } from '../core/errors.ts';

const codes: Readonly<Partial<Record<string, ErrorCode>>> = {
  ENOENT: 'not_found',
  ENOTDIR: 'not_found',
  EEXIST: 'exists',
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EROFS: 'read_only',
  EACCES: 'invalid',
  EPERM: 'invalid',
  EISDIR: 'invalid',
  EINVAL: 'invalid',
  ENAMETOOLONG: 'invalid',
};

export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return names.includes((error as NodeJS.ErrnoException).code ?? '');
}

/** Runs `action`; what the file system says is told in the words of the port. */
export async function attempt<T>(
  what: string,
  signal: AbortSignal | undefined,
  action: () => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  try {
    return await action();
  } catch (error) {
    if (signal?.aborted === true) throw signal.reason;
    if (error instanceof StorageError) throw error;
    const { code = '', path } = error as NodeJS.ErrnoException;
    throw new StorageError(codes[code] ?? 'unavailable', `${what}: ${code || String(error)}`, {
      cause: error,
      ...(path !== undefined && { detail: { path } }),
    });
  }
}
