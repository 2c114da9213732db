/** What import and export share: options, the mount that they go through, names that are taken. */

import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { isMounted } from '../frontend/fuse/mount.ts';
import { call, findAdmin } from './client.ts';
import { CliError, exitCode } from './exit-code.ts';
import { imageFormats } from './qemu-img.ts';
import type { GlobalOptions } from './reports.ts';

export interface CopyOptions extends GlobalOptions {
  readonly force?: boolean;
  readonly format?: string;
}

export function fail(why: string, code: number = exitCode.failed): never {
  throw new CliError(why, code);
}

export function refuseFormat({ format }: CopyOptions): void {
  if (format !== undefined && !imageFormats.includes(format))
    fail(`--format: found ${format}; allowed is ${imageFormats.join(', ')}`, exitCode.usage);
}

export interface Vpool {
  readonly admin: string;
  /** On this machine. */
  readonly mount: string;
}

export async function findVpool(path: string, options: GlobalOptions): Promise<Vpool> {
  const admin = findAdmin(options.admin, path);
  const { mount } = await call<{ mount: string }>(admin, 'GET', '/v1/status');
  if (!isMounted(mount)) fail(`the daemon at ${admin} has no mount on this machine`);
  return { admin, mount };
}

/** Undefined where nothing stands there. */
export async function standingAt(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** Beside the name that it will have. */
export function temporaryName(): string {
  return `.wharf-${randomBytes(8).toString('hex')}`;
}
