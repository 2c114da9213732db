/** The Disk port over the machine's file systems: by the addon, by node:fs where there is none. */

import * as fs from 'node:fs';
import type { Disk } from '../ports/disk.ts';
import { lockFile } from './disk-lock.ts';
import { translateFsError } from './errno.ts';
import type { Native } from './native.ts';
import { NativeFile } from './native-file.ts';
import { PlainFile } from './plain-file.ts';

const openFlags = {
  existing: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT,
  exclusive: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
  read: fs.constants.O_RDONLY,
} as const;

/** Of a folder that is removed. */
const heldFilesMax = 256;

export function systemDisk(native: Native | undefined): Disk {
  const attempt = <T>(what: string, path: string, action: () => T): T => {
    try {
      return action();
    } catch (error) {
      throw translateFsError(error, what, path);
    }
  };
  const close = closeBehind();
  return {
    open: (path, mode) =>
      attempt('open', path, () => {
        const fd = fs.openSync(path, openFlags[mode], 0o600);
        try {
          return native ? new NativeFile({ native, close }, path, fd) : new PlainFile(path, fd);
        } catch (error) {
          fs.closeSync(fd);
          throw error;
        }
      }),
    list: (folder) =>
      attempt('list', folder, () => (fs.existsSync(folder) ? fs.readdirSync(folder).sort() : [])),
    makeFolder: (folder) =>
      attempt('mkdir', folder, () => void fs.mkdirSync(folder, { recursive: true })),
    remove: (path) => attempt('remove', path, () => fs.unlinkSync(path)),
    removeFolder: (folder) =>
      attempt('remove', folder, () => {
        // Their names go now, their bytes with these descriptors.
        const descriptors = openFiles(folder);
        try {
          fs.rmSync(folder, { recursive: true, force: true });
        } finally {
          for (const fd of descriptors) close(fd);
        }
      }),
    rename: (from, to) => attempt('rename', from, () => fs.renameSync(from, to)),
    syncFolder: (folder) => attempt('fsync', folder, () => syncFolder(folder)),
    space: (folder) =>
      attempt('statfs', folder, () => {
        const { bsize, blocks, bavail } = fs.statfsSync(folder);
        return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
      }),
    lock: (path, holder) => attempt('lock', path, () => lockFile(native, path, holder)),
  };
}

/**
 * Closes by the thread pool, one after another: with the last descriptor of a large file that was
 * removed the file system takes tens of milliseconds, which nobody has to wait for. What a close
 * might report, datasync has.
 */
function closeBehind(): (fd: number) => void {
  let last = Promise.resolve();
  return (fd) => {
    last = last.then(() => new Promise((resolve) => fs.close(fd, () => resolve())));
  };
}

/** The first ones of a folder, as far as they can be opened. */
function openFiles(folder: string): readonly number[] {
  if (!fs.existsSync(folder)) return [];
  const files = fs.readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  return files.slice(0, heldFilesMax).flatMap(({ name }) => {
    try {
      return fs.openSync(`${folder}/${name}`, fs.constants.O_RDONLY);
    } catch {
      return [];
    }
  });
}

function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
