/** Answers the requests of other hosts' routers for objects that this host drives. */

import { StorageError } from '../../core/errors.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import type { RequestHead } from '../../format/peer-message.ts';
import { decodeRequestHead, encodeAnswerHead, peerKind } from '../../format/peer-message.ts';
import { limits } from '../../core/limits.ts';
import type { PeerMessage } from '../../ports/peers.ts';
import { RequestOrder } from './request-order.ts';
import type { RoutedObject } from '../routed-object.ts';

const nothing = new Uint8Array(0);

export interface PeerServiceDeps {
  /** The object, opened where it is this host's; `not_owner`, `not_found`. */
  readonly driven: (id: ObjectId) => Promise<RoutedObject>;
  /** What belongs to a move of an object. */
  readonly move: (from: HostId, kind: number, head: RequestHead) => Promise<Moved>;
}

export interface Moved {
  readonly result: number;
  readonly payload?: Uint8Array;
}

export class PeerService {
  readonly #deps: PeerServiceDeps;
  readonly #order = new RequestOrder();

  constructor(deps: PeerServiceDeps) {
    this.#deps = deps;
  }

  async handle(from: HostId, message: PeerMessage): Promise<PeerMessage> {
    const head = decodeRequestHead(message.head);
    return this.#order.run(from, head, () => this.#serve(from, message, head));
  }

  async #serve(from: HostId, message: PeerMessage, head: RequestHead): Promise<PeerMessage> {
    if (message.kind >= peerKind.movePrepare) {
      const { result, payload = nothing } = await this.#deps.move(from, message.kind, head);
      const answer = { sizeBytes: 0, allocatedBytes: 0, result, epoch: 0, isVolume: false };
      return { kind: message.kind, head: encodeAnswerHead(answer), payload };
    }
    const object = await this.#deps.driven(head.id);
    const { result, payload = nothing } = await act(object, message, head);
    const answer = {
      ...{ sizeBytes: object.size(), allocatedBytes: object.allocatedBytes(), result, epoch: 0 },
      isVolume: object.kind() === 'volume',
    };
    return { kind: message.kind, head: encodeAnswerHead(answer), payload };
  }
}

async function act(
  object: RoutedObject,
  { kind, payload }: PeerMessage,
  { offset, length }: RequestHead,
): Promise<Moved> {
  switch (kind) {
    case peerKind.open:
      await object.serve(() => undefined);
      return { result: 0 };
    case peerKind.read: {
      const into = new Uint8Array(Math.min(length, limits.requestBytesMax));
      const result = await object.serve((inner) => inner.read(offset, into));
      return { result, payload: into.subarray(0, result) };
    }
    case peerKind.write:
      await object.serve((inner) => inner.write(offset, payload), offset + payload.length);
      return { result: payload.length };
    case peerKind.trim:
      await object.serve((inner) => inner.trim(offset, length));
      return { result: 0 };
    case peerKind.resize:
      await object.serve((inner) => inner.resize(length), length);
      return { result: 0 };
    case peerKind.seekData:
    case peerKind.seekHole: {
      const what = kind === peerKind.seekData ? 'data' : 'hole';
      return { result: (await object.serve((inner) => inner.seek(offset, what))) ?? -1 };
    }
    case peerKind.flush:
      await object.serve((inner) => inner.flush());
      return { result: 0 };
    case peerKind.sync:
      await object.serve((inner) => inner.sync());
      return { result: 0 };
    case peerKind.append:
      return { result: (await object.serveAppend(offset, payload)) ? 1 : 0 };
    default:
      throw new StorageError('unsupported', `this version knows no message of kind ${kind}`);
  }
}
