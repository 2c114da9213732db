/**
 * An object that another host serves: each request goes to its owner. Sizes are those of the last
 * answer.
 *
 * Errors beside those of the object: `not_owner` (it has moved), `unavailable` and
 * `unknown_outcome` (the owner does not answer). The router acts on them; they never leave it.
 */

import type { Change } from '../../core/changes.ts';
import { isStorageError } from '../../core/errors.ts';
import type { ObjectId } from '../../core/units.ts';
import { peerKind } from '../../format/peer-message.ts';
import type { DataObject } from '../../ports/data-object.ts';
import type { ObjectKind } from '../../ports/objects.ts';
import { Unflushed } from '../unflushed.ts';
import type { PeerAnswer, PeerLink, PeerRequest } from './peer-link.ts';

const nothing = () => {};

export class RemoteObject implements DataObject {
  readonly id: ObjectId;
  readonly #link: PeerLink;
  #sizeBytes = 0;
  #allocatedBytes = 0;
  #kind: ObjectKind = 'file';
  #epoch = 0;
  #unflushed = new Unflushed();

  private constructor(link: PeerLink, id: ObjectId) {
    this.#link = link;
    this.id = id;
  }

  static async open(link: PeerLink, id: ObjectId): Promise<RemoteObject> {
    const object = new RemoteObject(link, id);
    await object.refresh();
    return object;
  }

  /** Changes are noted there when they are acknowledged. */
  noteIn(unflushed: Unflushed): void {
    this.#unflushed = unflushed;
  }

  /** Of the newest tenure that has answered; 0: its host does not tell. */
  get epoch(): number {
    return this.#epoch;
  }

  kind(): ObjectKind {
    return this.#kind;
  }

  size(): number {
    return this.#sizeBytes;
  }

  allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  read(offset: number, into: Uint8Array): Promise<number> {
    const request = { kind: peerKind.read, offset, length: into.length, into };
    return this.#ask(request, ({ payload }) => {
      const bytes = Math.min(payload.length, into.length);
      if (payload.buffer !== into.buffer)
        into.set(payload.length === bytes ? payload : payload.subarray(0, bytes));
      return bytes;
    });
  }

  write(offset: number, data: Uint8Array): Promise<number> {
    return this.#change({ kind: peerKind.write, offset, payload: data });
  }

  /** Writes if that is the end; otherwise the size is known anew, and it gives 0. */
  appendAt(offset: number, data: Uint8Array): Promise<number> {
    const { length } = data;
    return this.#change({ kind: peerKind.append, offset, length, payload: data });
  }

  /** Size, space and kind are what they are now. */
  refresh(): Promise<void> {
    return this.#ask({ kind: peerKind.open }, nothing);
  }

  trim(offset: number, length: number): Promise<number> {
    return this.#change({ kind: peerKind.trim, offset, length });
  }

  resize(bytes: number): Promise<number> {
    return this.#change({ kind: peerKind.resize, length: bytes });
  }

  /** Whether the change is there still, as far as the owner can tell. */
  async hasChange({ epoch, number: offset }: Change): Promise<boolean> {
    const request = { kind: peerKind.hasChange, epoch, offset };
    try {
      return await this.#ask(request, ({ head }) => head.result === 1);
    } catch (error) {
      // Of the version before, which numbers no changes.
      if (isStorageError(error, 'unsupported')) return true;
      throw error;
    }
  }

  seek(offset: number, what: 'data' | 'hole'): Promise<number | undefined> {
    const kind = what === 'data' ? peerKind.seekData : peerKind.seekHole;
    return this.#ask({ kind, offset }, ({ head: { result } }) => (result < 0 ? undefined : result));
  }

  flush(): Promise<void> {
    return this.#ask({ kind: peerKind.flush }, nothing);
  }

  sync(): Promise<void> {
    return this.#ask({ kind: peerKind.sync }, nothing);
  }

  /** The owner keeps it open as long as it likes. */
  close(): Promise<void> {
    return this.flush();
  }

  abandon(): Promise<void> {
    return Promise.resolve();
  }

  #change(request: PeerRequest): Promise<number> {
    return this.#ask(request, ({ head: { epoch, result } }) => {
      this.#unflushed.note(epoch, result, this.#link.peer.host);
      return result;
    });
  }

  #ask<T>(request: PeerRequest, found: (answer: PeerAnswer) => T): Promise<T> {
    return this.#link.ask(this.id, request).then((answer) => {
      const { head } = answer;
      this.#sizeBytes = head.sizeBytes;
      this.#allocatedBytes = head.allocatedBytes;
      this.#kind = head.isVolume ? 'volume' : 'file';
      this.#epoch = Math.max(this.#epoch, head.epoch);
      return found(answer);
    });
  }
}
