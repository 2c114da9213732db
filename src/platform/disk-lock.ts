/**
 * A lock of the kernel on a file (flock(2)): it ends with the process, however that ends. The
 * file's text names the holder for those who are refused; the file stays when the lock goes.
 */

import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { DiskLock } from '../ports/disk.ts';
import { errnoError } from './errno.ts';
import type { Native } from './native.ts';

const eagain = 11;

export function lockFile(native: Native | undefined, path: string, holder: string): DiskLock {
  fs.mkdirSync(dirname(path), { recursive: true });
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  try {
    const isOurs = native ? lockByAddon(native, fd, path) : lockByProgram(fd, path);
    if (!isOurs) throw refusal(fd, path);
    fs.ftruncateSync(fd, 0);
    fs.writeSync(fd, `${holder}\n`, 0);
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  let isHeld = true;
  return {
    release() {
      if (isHeld) fs.closeSync(fd);
      isHeld = false;
    },
  };
}

function lockByAddon(native: Native, fd: number, path: string): boolean {
  const status = native.lockExclusive(fd);
  if (status === 0) return true;
  if (status === -eagain) return false;
  throw errnoError(-status, 'lock', path);
}

/**
 * By flock(1) of util-linux. The lock belongs to the open file, which the program shares with this
 * process, so it stays when the program has ended.
 */
function lockByProgram(fd: number, path: string): boolean {
  const inherited = 3;
  const { status, error } = spawnSync('flock', ['--exclusive', '--nonblock', `${inherited}`], {
    stdio: ['ignore', 'ignore', 'ignore', fd],
  });
  if (status === 0) return true;
  if (status === 1) return false;
  throw new StorageError('failed', 'lock failed: flock(1) could not be run', {
    cause: error,
    detail: { path, status },
  });
}

function refusal(fd: number, path: string): StorageError {
  const holder = fs.readFileSync(fd, 'utf8').trim();
  return new StorageError('busy', `in use by ${holder || 'another process'}`, { detail: { path } });
}
