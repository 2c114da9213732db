/**
 * Messages between the daemons of a vPool's hosts. Implementations: TCP, and a simulated network.
 *
 * Errors of `call`:
 * - `unavailable`: the peer has surely not been told.
 * - `unknown_outcome`: it was told and its answer did not come: it may have done it, now or later.
 * - Whatever its handler threw: codes of StorageError travel.
 *
 * Memory: the caller leaves the request's payload alone until the call settles; the handler may use
 * it until its own answer is there. The payload of an answer belongs to the caller; it may lie in
 * `into`, where the caller has given that, and nothing is put there once the call has settled.
 */

import type { Eventually } from '../core/eventually.ts';
import type { HostId } from '../core/units.ts';

export interface PeerMessage {
  /** 0 to 255: what it means is between the rooms that use it. */
  readonly kind: number;
  /** At most 4 KiB. */
  readonly head: Uint8Array;
  /** At most `peerPayloadBytesMax`. */
  readonly payload: Uint8Array;
}

/** A request of the largest size, and what surrounds it in a journal. */
export const peerPayloadBytesMax = 1024 * 1024 + 64 * 1024;

export interface PeerAddress {
  readonly host: HostId;
  /** As `10.0.0.1:7000`. */
  readonly address: string;
}

export interface CallOptions {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly into?: Uint8Array | undefined;
}

export type PeerHandler = (from: HostId, message: PeerMessage) => Eventually<PeerMessage>;

export interface Peers {
  call(peer: PeerAddress, message: PeerMessage, options: CallOptions): Promise<PeerMessage>;
  close(): Promise<void>;
}
