/** Answers the requests of other hosts' routers for objects that this host drives. */

import { StorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import { chain } from '../../core/eventually.ts';
import { Slab } from '../../core/slab.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import type { RequestHead } from '../../format/peer-message.ts';
import { decodeRequestHead, encodeAnswerHead, peerKind } from '../../format/peer-message.ts';
import { limits } from '../../core/limits.ts';
import { isThere } from '../../core/changes.ts';
import type { DrivenObject } from '../../ports/object-driver.ts';
import type { PeerMessage } from '../../ports/peers.ts';
import { RequestOrder } from './request-order.ts';
import type { RoutedObject } from '../routed-object.ts';

const nothing = new Uint8Array(0);

export interface PeerServiceDeps {
  /** The object, opened where it is this host's; `not_owner`, `not_found`. */
  readonly driven: (id: ObjectId) => Eventually<RoutedObject>;
  /** What belongs to a move of an object. */
  readonly move: (from: HostId, kind: number, head: RequestHead) => Promise<Moved>;
}

export interface Moved {
  readonly result: number;
  readonly payload?: Uint8Array;
  readonly epoch?: number;
}

export class PeerService {
  readonly #deps: PeerServiceDeps;
  readonly #order = new RequestOrder();
  readonly #slab = new Slab();

  constructor(deps: PeerServiceDeps) {
    this.#deps = deps;
  }

  /** At once, without a promise, where the object can. */
  handle(from: HostId, message: PeerMessage): Eventually<PeerMessage> {
    const head = decodeRequestHead(message.head);
    return this.#order.run(from, head, () => this.#serve(from, message, head));
  }

  #serve(from: HostId, message: PeerMessage, head: RequestHead): Eventually<PeerMessage> {
    if (message.kind >= peerKind.movePrepare) return this.#move(from, message, head);
    return chain(this.#deps.driven(head.id), (object) =>
      chain(act(object, message, head, this.#slab), (found) => answerOf(object, message, found)),
    );
  }

  async #move(from: HostId, { kind }: PeerMessage, head: RequestHead): Promise<PeerMessage> {
    const { result, payload = nothing } = await this.#deps.move(from, kind, head);
    const answer = { sizeBytes: 0, allocatedBytes: 0, result, epoch: 0, isVolume: false };
    return { kind, head: encodeAnswerHead(answer), payload };
  }
}

function answerOf(
  object: RoutedObject,
  { kind }: PeerMessage,
  { result, payload = nothing, epoch = 0 }: Moved,
): PeerMessage {
  const head = encodeAnswerHead({
    sizeBytes: object.size(),
    allocatedBytes: object.allocatedBytes(),
    result,
    epoch,
    isVolume: object.kind() === 'volume',
  });
  return { kind, head, payload };
}

/** The result, which may be none, and whose it is. */
function told(inner: DrivenObject, work: Eventually<number | void>): Eventually<Moved> {
  const { epoch } = inner;
  return chain(work, (result) => ({ result: result ?? 0, epoch }));
}

function act(
  object: RoutedObject,
  { kind, payload }: PeerMessage,
  { epoch, offset, length }: RequestHead,
  slab: Slab,
): Eventually<Moved> {
  switch (kind) {
    case peerKind.open:
      return object.serve((inner) => told(inner, undefined));
    case peerKind.read: {
      const into = slab.take(Math.min(length, limits.requestBytesMax));
      const read = object.serve((inner) => inner.read(offset, into));
      return chain(read, (result) => ({ result, payload: into.subarray(0, result) }));
    }
    case peerKind.write: {
      const end = offset + payload.length;
      return object.serve((inner) => told(inner, inner.write(offset, payload)), end);
    }
    case peerKind.trim:
      return object.serve((inner) => told(inner, inner.trim(offset, length)));
    case peerKind.resize:
      return object.serve((inner) => told(inner, inner.resize(length)), length);
    case peerKind.seekData:
    case peerKind.seekHole: {
      const what = kind === peerKind.seekData ? 'data' : 'hole';
      const found = object.serve((inner) => inner.seek(offset, what));
      return chain(found, (result) => ({ result: result ?? -1 }));
    }
    case peerKind.flush:
      return object.serve((inner) => told(inner, inner.flush()));
    case peerKind.sync:
      return object.serve((inner) => told(inner, inner.sync()));
    case peerKind.append:
      return object
        .serveAppend(offset, payload.length, (inner) => told(inner, inner.write(offset, payload)))
        .then((made) => (made && length === 0 ? { ...made, result: 1 } : (made ?? { result: 0 })));
    case peerKind.hasChange:
      return object.serve((inner) => {
        const isKept = isThere(inner.changes.starts, { epoch, number: offset });
        return told(inner, isKept ? 1 : 0);
      });
    default:
      throw new StorageError('unsupported', `this version knows no message of kind ${kind}`);
  }
}
