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

  async read(offset: number, into: Uint8Array): Promise<number> {
    const request = { kind: peerKind.read, offset, length: into.length };
    const { payload } = await this.#ask(request);
    into.set(payload.subarray(0, into.length));
    return Math.min(payload.length, into.length);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#ask({ kind: peerKind.write, offset, payload: data });
  }

  /** Writes if that is the end; otherwise the size is known anew. */
  async appendAt(offset: number, data: Uint8Array): Promise<boolean> {
    const { head } = await this.#ask({ kind: peerKind.append, offset, payload: data });
    return head.result === 1;
  }

  /** Size, space and kind are what they are now. */
  async refresh(): Promise<void> {
    await this.#ask({ kind: peerKind.open });
  }

  async trim(offset: number, length: number): Promise<void> {
    await this.#ask({ kind: peerKind.trim, offset, length });
  }

  async resize(bytes: number): Promise<void> {
    await this.#ask({ kind: peerKind.resize, length: bytes });
  }

  async seek(offset: number, what: 'data' | 'hole'): Promise<number | undefined> {
    const kind = what === 'data' ? peerKind.seekData : peerKind.seekHole;
    const { head } = await this.#ask({ kind, offset });
    return head.result < 0 ? undefined : head.result;
  }

  async flush(): Promise<void> {
    await this.#ask({ kind: peerKind.flush });
  }

  async sync(): Promise<void> {
    await this.#ask({ kind: peerKind.sync });
  }

  /** The owner keeps it open as long as it likes. */
  close(): Promise<void> {
    return this.flush();
  }

  abandon(): Promise<void> {
    return Promise.resolve();
  }

  async #ask(request: PeerRequest): Promise<PeerAnswer> {
    const answer = await this.#link.ask(this.id, request);
    this.#sizeBytes = answer.head.sizeBytes;
    this.#allocatedBytes = answer.head.allocatedBytes;
    this.#kind = answer.head.isVolume ? 'volume' : 'file';
    return answer;
  }
}
