/** What every registry refuses alike, before anything is sent. */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Transaction } from '../ports/registry.ts';

/** `too_large`, `invalid`. */
export function checkTransaction({ compares, writes }: Transaction): void {
  const { registryOperationsMax, registryTransactionBytesMax, registryValueBytesMax } = limits;
  if (writes.length > registryOperationsMax || compares.length > registryOperationsMax)
    throw new StorageError('too_large', 'a registry transaction has too many operations', {
      detail: { compares: compares.length, writes: writes.length, max: registryOperationsMax },
    });
  let bytes = 0;
  for (const write of writes) {
    if (!('put' in write)) continue;
    if (write.put.length > registryValueBytesMax)
      throw new StorageError('too_large', 'a registry value is too large');
    bytes += write.put.length;
  }
  if (bytes > registryTransactionBytesMax)
    throw new StorageError('too_large', 'a registry transaction has too many bytes');
  if (new Set(writes.map(({ key }) => key)).size !== writes.length)
    throw new StorageError('invalid', 'a registry transaction writes a key twice');
}
