/** Extended attributes: one registry value each, its bytes as they are. */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Ino } from '../core/units.ts';
import { prefixRange } from '../ports/registry.ts';
import type { Namespace } from '../registry/namespace.ts';
import { deleteKey, isAbsent, isPresent, keys } from '../registry/namespace.ts';

/**
 * Attributes that mean something to nobody here. Those of `system.` do: who sets an access list
 * (system.posix_acl_access) has set the mode with it and doesn't set it again, so that one which is
 * only kept would lose the mode.
 */
const namespaces = ['user.', 'trusted.', 'security.'];

function checkName(name: string): void {
  if (!namespaces.some((prefix) => name.startsWith(prefix)))
    throw new StorageError('unsupported', 'no such kind of attribute here');
  if (name.length > limits.xattrNameBytesMax)
    throw new StorageError('invalid', 'an attribute name has at most 255 bytes');
}

export class ExtendedAttributes {
  readonly #namespace: Namespace;

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
  }

  async get(ino: Ino, name: string): Promise<Uint8Array> {
    checkName(name);
    const found = await this.#namespace.registry.get(keys.attribute(ino, name));
    if (!found) throw new StorageError('no_attribute', 'no such attribute');
    return found.value;
  }

  async set(
    ino: Ino,
    name: string,
    value: Uint8Array,
    how: 'set' | 'create' | 'replace',
  ): Promise<void> {
    checkName(name);
    if (value.length > limits.xattrValueBytesMax)
      throw new StorageError('too_large', 'an attribute has at most 64 KiB');
    await this.#namespace.changeable(ino);
    const key = keys.attribute(ino, name);
    const compares = [isPresent(keys.inode(ino))];
    if (how === 'create') compares.push(isAbsent(key));
    if (how === 'replace') compares.push(isPresent(key));
    const writes = [{ key, put: value.slice() }];
    if ((await this.#namespace.registry.transact({ compares, writes })).committed) return;
    await this.#namespace.inode(ino);
    if (how === 'create') throw new StorageError('exists', 'the attribute exists');
    throw new StorageError('no_attribute', 'no such attribute');
  }

  async list(ino: Ino): Promise<readonly string[]> {
    const prefix = keys.attribute(ino, '');
    const { entries } = await this.#namespace.registry.range(prefixRange(prefix));
    return entries.map(({ key }) => key.slice(prefix.length));
  }

  async remove(ino: Ino, name: string): Promise<void> {
    checkName(name);
    await this.#namespace.changeable(ino);
    const key = keys.attribute(ino, name);
    const compares = [isPresent(key)];
    const outcome = await this.#namespace.registry.transact({ compares, writes: [deleteKey(key)] });
    if (!outcome.committed) throw new StorageError('no_attribute', 'no such attribute');
  }
}
