/** Says what a command waits for, when its answer takes long: once, or on a terminal as it changes. */

import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatSize } from '../daemon/units.ts';
import { call } from './client.ts';

const patienceMs = 2000;

interface Status {
  readonly backend: { readonly state: string; readonly error?: string };
}

/** `path`: the vDisk that is asked about, inside the vPool. */
export async function patiently<T>(admin: string, path: string, asked: Promise<T>): Promise<T> {
  const isShown = process.stderr.isTTY;
  let last = '';
  const timer = setInterval(() => {
    void reasonOf(admin, path)
      .catch((error: Error) => error.message)
      .then((reason) => {
        if (reason === last || (last !== '' && !isShown)) return;
        process.stderr.write(
          `${isShown ? '\r\u001b[K' : ''}waits: ${reason}${isShown ? '' : '\n'}`,
        );
        last = reason;
      });
  }, patienceMs);
  try {
    return await asked;
  } finally {
    clearInterval(timer);
    if (isShown && last !== '') process.stderr.write('\r\u001b[K');
  }
}

async function reasonOf(admin: string, path: string): Promise<string> {
  const { backend } = await call<Status>(admin, 'GET', '/v1/status');
  if (backend.error !== undefined) return `the object store: ${backend.error}`;
  const disk = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', { path });
  if (disk.waiting !== undefined) return disk.waiting;
  return `${formatSize(disk.notDestagedBytes)} go to the object store first`;
}
