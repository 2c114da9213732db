/** Certificates and keys, whose files settings name. */

import { readFileSync } from 'node:fs';
import { StorageError } from '../core/errors.ts';

/** `key`: the setting that holds the path. Throws `invalid` in one line. */
export function readPem(key: string, path: string): Buffer {
  const found = `${key}: found ${JSON.stringify(path)}`;
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new StorageError('invalid', `${found} (${code}); allowed is a PEM file`);
  }
  if (content.includes('-----BEGIN ')) return content;
  throw new StorageError('invalid', `${found}, which has no PEM in it; allowed is a PEM file`);
}
