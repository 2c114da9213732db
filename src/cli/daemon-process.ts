/** How a daemon is started: the flags and the environment that its process needs. */

import { join } from 'node:path';

export const daemonFile = join(import.meta.dirname, '../main.ts');

/** MiB; V8 would let short-lived objects take 128 MiB before it looks for dead ones. */
const semiSpaceMiB = 8;
export const daemonFlags: readonly string[] = [`--max-semi-space-size=${semiSpaceMiB}`];

/** Threads that wait for disks. */
const threadPoolSize = '16';

/** Of glibc (mallopt(3)): segments are large and live briefly, and their memory goes back at once. */
const allocator = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '262144',
  MALLOC_TRIM_THRESHOLD_: '1048576',
};

export function daemonEnvironment(): NodeJS.ProcessEnv {
  return { UV_THREADPOOL_SIZE: threadPoolSize, ...allocator, ...process.env };
}
