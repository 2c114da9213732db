/**
 * An object that another host serves: each request goes to its owner. Sizes are those of the last
 * answer.
 *
 * Errors beside those of the object: `not_owner` (it has moved), `unavailable` and
 * `unknown_outcome` (the owner does not answer). The router acts on them; they never leave it.
 */

import type { ObjectId } from '../../core/units.ts';
import { peerKind } from '../../format/peer-message.ts';
import type { DataObject } from '../../ports/data-object.ts';
import type { ObjectKind } from '../../ports/objects.ts';
import type { PeerAnswer, PeerLink, PeerRequest } from './peer-link.ts';

const nothing = () => {};

export class RemoteObject implements DataObject {
  readonly id: ObjectId;
  readonly #link: PeerLink;
  #sizeBytes = 0;
  #allocatedBytes = 0;
  #kind: ObjectKind = 'file';

  private constructor(link: PeerLink, id: ObjectId) {
    this.#link = link;
    this.id = id;
  }

  static async open(link: PeerLink, id: ObjectId): Promise<RemoteObject> {
    const object = new RemoteObject(link, id);
    await object.refresh();
    return object;
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
    const request = { kind: peerKind.read, offset, length: into.length };
    return this.#ask(request, ({ payload }) => {
      const bytes = Math.min(payload.length, into.length);
      into.set(payload.length === bytes ? payload : payload.subarray(0, bytes));
      return bytes;
    });
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#ask({ kind: peerKind.write, offset, payload: data }, nothing);
  }

  /** Writes if that is the end; otherwise the size is known anew. */
  appendAt(offset: number, data: Uint8Array): Promise<boolean> {
    const request = { kind: peerKind.append, offset, payload: data };
    return this.#ask(request, ({ head }) => head.result === 1);
  }

  /** Size, space and kind are what they are now. */
  refresh(): Promise<void> {
    return this.#ask({ kind: peerKind.open }, nothing);
  }

  trim(offset: number, length: number): Promise<void> {
    return this.#ask({ kind: peerKind.trim, offset, length }, nothing);
  }

  resize(bytes: number): Promise<void> {
    return this.#ask({ kind: peerKind.resize, length: bytes }, nothing);
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

  #ask<T>(request: PeerRequest, found: (answer: PeerAnswer) => T): Promise<T> {
    return this.#link.ask(this.id, request).then((answer) => {
      const { head } = answer;
      this.#sizeBytes = head.sizeBytes;
      this.#allocatedBytes = head.allocatedBytes;
      this.#kind = head.isVolume ? 'volume' : 'file';
      return found(answer);
    });
  }
}
