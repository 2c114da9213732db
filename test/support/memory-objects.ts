/** Objects in memory, for tests of the namespace. */

import { StorageError } from '../../src/core/errors.ts';
import type { ObjectId } from '../../src/core/units.ts';
import type { ObjectHandle, ObjectKind, Objects } from '../../src/ports/objects.ts';

class MemoryObject implements ObjectHandle {
  readonly id: ObjectId;
  readonly #kind: ObjectKind;
  #bytes = new Uint8Array(0);

  constructor(id: ObjectId, kind: ObjectKind) {
    this.id = id;
    this.#kind = kind;
  }

  kind(): ObjectKind {
    return this.#kind;
  }

  isHere(): boolean {
    return true;
  }

  refresh(): void {}

  async append(data: Uint8Array): Promise<void> {
    this.write(this.size(), data);
  }

  size(): number {
    return this.#bytes.length;
  }

  allocatedBytes(): number {
    return this.#bytes.length;
  }

  read(offset: number, into: Uint8Array): number {
    const found = this.#bytes.subarray(offset, offset + into.length);
    into.set(found);
    return found.length;
  }

  write(offset: number, data: Uint8Array): number {
    if (offset + data.length > this.size()) this.resize(offset + data.length);
    this.#bytes.set(data, offset);
    return 1;
  }

  trim(offset: number, length: number): number {
    this.#bytes.fill(0, offset, offset + length);
    return 1;
  }

  resize(bytes: number): number {
    const next = new Uint8Array(bytes);
    next.set(this.#bytes.subarray(0, bytes));
    this.#bytes = next;
    return 1;
  }

  seek(offset: number, what: 'data' | 'hole'): number | undefined {
    return what === 'data' ? offset : this.size();
  }

  async flush(): Promise<void> {}
  async harden(): Promise<void> {}
  async sync(): Promise<void> {}
  async close(): Promise<void> {}
  async abandon(): Promise<void> {}
}

export function memoryObjects(): Objects & { ids(): ReadonlySet<ObjectId> } {
  const objects = new Map<ObjectId, MemoryObject>();
  return {
    ids: () => new Set(objects.keys()),
    async create(id, kind) {
      if (!objects.has(id)) objects.set(id, new MemoryObject(id, kind));
    },
    async open(id) {
      const found = objects.get(id);
      if (!found) throw new StorageError('not_found', `no object ${id}`);
      return found;
    },
    release() {},
    isUsedElsewhere: async () => false,
    async delete(id) {
      objects.delete(id);
    },
    opened: (id) => objects.get(id),
  };
}
