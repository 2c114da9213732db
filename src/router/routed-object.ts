/**
 * An object as the front ends hold it: it stays while what serves it changes. A request goes to
 * the driver's object at once; while a file is being promoted to a volume, requests wait, and go
 * on with the volume.
 *
 *   serving    requests pass
 *   held       new requests wait for the change of what is behind; those under way finish first
 */

import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import type { DataObject } from '../ports/data-object.ts';
import type { ObjectHandle, ObjectKind } from '../ports/objects.ts';

export class RoutedObject implements ObjectHandle {
  readonly id: ObjectId;
  #inner: DataObject;
  #kind: ObjectKind;
  readonly #promote: (file: DataObject) => Promise<DataObject>;
  #underWay = 0;
  #idle: (() => void) | undefined;
  #held: Promise<void> | undefined;

  constructor(
    inner: DataObject,
    kind: ObjectKind,
    promote: (file: DataObject) => Promise<DataObject>,
  ) {
    this.id = inner.id;
    this.#inner = inner;
    this.#kind = kind;
    this.#promote = promote;
  }

  kind(): ObjectKind {
    return this.#kind;
  }

  size(): number {
    return this.#inner.size();
  }

  allocatedBytes(): number {
    return this.#inner.allocatedBytes();
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    if (this.#held) return this.#held.then(() => this.read(offset, into));
    return this.#count(this.#inner.read(offset, into));
  }

  write(offset: number, data: Uint8Array): Eventually<void> {
    if (this.#held) return this.#held.then(() => this.write(offset, data));
    if (this.#outgrows(offset + data.length))
      return this.#grow().then(() => this.write(offset, data));
    return this.#count(this.#inner.write(offset, data));
  }

  trim(offset: number, length: number): Eventually<void> {
    if (this.#held) return this.#held.then(() => this.trim(offset, length));
    return this.#count(this.#inner.trim(offset, length));
  }

  resize(bytes: number): Eventually<void> {
    if (this.#held) return this.#held.then(() => this.resize(bytes));
    if (this.#outgrows(bytes)) return this.#grow().then(() => this.resize(bytes));
    return this.#count(this.#inner.resize(bytes));
  }

  seek(offset: number, what: 'data' | 'hole'): Eventually<number | undefined> {
    if (this.#held) return this.#held.then(() => this.seek(offset, what));
    return this.#count(this.#inner.seek(offset, what));
  }

  async flush(): Promise<void> {
    while (this.#held) await this.#held;
    await this.#count(this.#inner.flush());
  }

  async sync(): Promise<void> {
    while (this.#held) await this.#held;
    await this.#count(this.#inner.sync());
  }

  async close(): Promise<void> {
    while (this.#held) await this.#held;
    await this.#inner.close();
  }

  async abandon(): Promise<void> {
    await this.#inner.abandon();
  }

  #outgrows(bytes: number): boolean {
    return this.#kind === 'file' && bytes >= limits.promoteBytes;
  }

  #count<T>(result: Eventually<T>): Eventually<T> {
    if (!isPending(result)) return result;
    this.#underWay += 1;
    return result.finally(() => {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#idle?.();
    });
  }

  /** The file has become too large for its driver. One promotion, whoever asks. */
  #grow(): Promise<void> {
    const promotion = this.#swap().finally(() => {
      this.#held = undefined;
    });
    // Those who wait find the file as it was when the promotion failed, and try by themselves.
    this.#held = promotion.catch(() => {});
    return promotion;
  }

  async #swap(): Promise<void> {
    if (this.#underWay > 0)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    this.#idle = undefined;
    this.#inner = await this.#promote(this.#inner);
    this.#kind = 'volume';
  }
}
