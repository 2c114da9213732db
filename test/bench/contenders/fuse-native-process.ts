/**
 * One file behind npm's `fuse-native`, as its users write such a thing: `IMAGE MOUNT`. Reads and
 * writes are done in place, which is faster there than to wait for the thread pool.
 */

import * as fs from 'node:fs';

type Done = (error: number, ...values: readonly unknown[]) => void;
type FuseNative = new (
  mount: string,
  operations: Readonly<Record<string, (...argv: never[]) => void>>,
  options: Readonly<Record<string, unknown>>,
) => { mount(done: (error: Error | null) => void): void };

const [image = '', mount = ''] = process.argv.slice(2);
const noSuchFile = -2;
const fileName = '/disk';

const fd = fs.openSync(image, fs.constants.O_RDWR);
const { size } = fs.fstatSync(fd);
const times = { mtime: new Date(), atime: new Date(), ctime: new Date() };
const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const attributes: Readonly<Record<string, object>> = {
  '/': { ...times, ...owner, nlink: 1, size: 4096, mode: 0o40755 },
  [fileName]: { ...times, ...owner, nlink: 1, size, mode: 0o100644 },
};

const operations = {
  readdir: (_path: string, done: Done) => done(0, [fileName.slice(1)]),
  getattr: (path: string, done: Done) => {
    const found = attributes[path];
    if (found) done(0, found);
    else done(noSuchFile);
  },
  open: (_path: string, _flags: number, done: Done) => done(0, fd),
  fsync: (_path: string, handle: number, _isData: boolean, done: Done) =>
    fs.fdatasync(handle, (error) => done(error ? -5 : 0)),
  read: (_path: string, handle: number, into: Buffer, length: number, at: number, done: Done) =>
    done(fs.readSync(handle, into, 0, length, at)),
  write: (_path: string, handle: number, from: Buffer, length: number, at: number, done: Done) =>
    done(fs.writeSync(handle, from, 0, length, at)),
};

const packageName = 'fuse-native';
const { default: Fuse } = (await import(packageName)) as { readonly default: FuseNative };
new Fuse(mount, operations, { timeout: false }).mount((error) => {
  if (error) throw error;
});
