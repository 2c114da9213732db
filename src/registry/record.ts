/**
 * Registry values are JSON with a version, checked field by field on the way in. What does not fit
 * is `corrupt`: it was damaged, or written by something else.
 */

import { StorageError } from '../core/errors.ts';
import type { HostId, Ino, ObjectId } from '../core/units.ts';
import { hostId, ino, objectId } from '../core/units.ts';

const recordVersion = 1;

export function encodeRecord(record: object): Uint8Array {
  return Buffer.from(JSON.stringify({ v: recordVersion, ...record }));
}

/** The fields of a stored record; each accessor throws `corrupt` on what is not of its kind. */
export class RecordReader {
  readonly #what: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(what: string, bytes: Uint8Array) {
    this.#what = what;
    this.#fields = parse(what, bytes);
    if (this.#fields['v'] !== recordVersion) this.#refuse('v', this.#fields['v']);
  }

  text(name: string): string {
    const value = this.#fields[name];
    return typeof value === 'string' ? value : this.#refuse(name, value);
  }

  optionalText(name: string): string | undefined {
    return this.#fields[name] === undefined ? undefined : this.text(name);
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined;
  }

  /** A whole number, 0 to 2^53 - 1. */
  count(name: string): number {
    const value = this.#fields[name];
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      ? value
      : this.#refuse(name, value);
  }

  /** Nanoseconds, kept as decimal digits. */
  time(name: string): bigint {
    const value = this.text(name);
    return /^-?\d{1,19}$/.test(value) ? BigInt(value) : this.#refuse(name, value);
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const value = this.text(name);
    return (values as readonly string[]).includes(value) ? (value as T) : this.#refuse(name, value);
  }

  ino(name: string): Ino {
    return this.made(name, ino, this.count(name));
  }

  objectId(name: string): ObjectId {
    return this.made(name, objectId, this.text(name));
  }

  objectIds(name: string): readonly ObjectId[] {
    return this.list(name).map((id) =>
      typeof id === 'string' ? this.made(name, objectId, id) : this.#refuse(name, id),
    );
  }

  hostId(name: string): HostId {
    return this.made(name, hostId, this.text(name));
  }

  /** What the field's value is to `make`, which throws where it is none. */
  made<V, T>(name: string, make: (value: V) => T, value: V): T {
    try {
      return make(value);
    } catch {
      return this.#refuse(name, value);
    }
  }

  list(name: string): readonly unknown[] {
    const value = this.#fields[name];
    return Array.isArray(value) ? (value as unknown[]) : this.#refuse(name, value);
  }

  /** Texts by their names. */
  texts(name: string): Readonly<Record<string, string>> {
    const value = this.#fields[name];
    const isFit =
      typeof value === 'object' &&
      value !== null &&
      Object.values(value).every((text) => typeof text === 'string');
    return isFit ? (value as Record<string, string>) : this.#refuse(name, value);
  }

  #refuse(name: string, found: unknown): never {
    throw new StorageError('corrupt', `${this.#what}: field ${name} is not valid`, {
      detail: { found },
    });
  }
}

function parse(what: string, bytes: Uint8Array): Record<string, unknown> {
  let cause: unknown;
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  } catch (error) {
    cause = error;
  }
  throw new StorageError('corrupt', `${what}: not a record`, { cause });
}
