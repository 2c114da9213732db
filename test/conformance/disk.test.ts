import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryDisk } from '../../src/platform/memory-disk.ts';
import { loadNative } from '../../src/platform/native.ts';
import { systemDisk } from '../../src/platform/system-disk.ts';
import { diskSuite } from './disk.ts';

const loaded = loadNative();
const noAddon = loaded.native ? {} : { skip: `no addon: ${loaded.reason}` };
const sharedMemory = '/dev/shm';
const tmpfsMagic = 0x0102_1994;

const onSystem =
  (native: typeof loaded.native, parent = tmpdir()) =>
  async () => {
    const folder = mkdtempSync(join(parent, 'wharf-disk-'));
    return {
      disk: systemDisk(native),
      folder,
      [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }),
    };
  };

const inMemory = (slowReads: boolean) => async () => {
  const disk = new MemoryDisk();
  disk.faults.slowReads = slowReads;
  disk.makeFolder('/test');
  return { disk, folder: '/test', [Symbol.asyncDispose]: async () => {} };
};

function isTmpfs(folder: string): boolean {
  try {
    return statfsSync(folder).type === tmpfsMagic;
  } catch {
    return false;
  }
}

diskSuite('memory', inMemory(false));
diskSuite('slow memory', inMemory(true));
diskSuite('the system', onSystem(loaded.native), noAddon);
diskSuite('the system without its addon', onSystem(undefined));
diskSuite(
  'tmpfs',
  onSystem(loaded.native, sharedMemory),
  isTmpfs(sharedMemory) ? noAddon : { skip: `${sharedMemory} is no tmpfs` },
);
