/**
 * The hosts that could keep a copy of a journal, as an owner sees them. It prefers another failure
 * domain, then the host that has the fewest of this host's copies, then one by hash, so that many
 * owners spread theirs.
 */

import type { HostId, ObjectId } from '../core/units.ts';
import type { AnswerHead, RequestHead } from '../format/peer-message.ts';
import { decodeAnswerHead, encodeRequestHead } from '../format/peer-message.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Peers } from '../ports/peers.ts';
import type { HostRecord, HostRecords } from '../registry/host-records.ts';

/** The list of hosts is asked for at most once in this time. */
const listAgeMsMax = 2000;
const nothing = new Uint8Array(0);

export interface ReplicaHostsDeps {
  readonly host: HostId;
  /** Failure domain of this host. */
  readonly domain: string | undefined;
  readonly hosts: Pick<HostRecords, 'list'>;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly checksum: Checksum;
}

export class ReplicaHosts {
  readonly #deps: ReplicaHostsDeps;
  readonly #timeoutMs: number;
  readonly #copies = new Map<HostId, number>();
  #list: Promise<readonly HostRecord[]> = Promise.resolve([]);
  #listedMs = Number.NEGATIVE_INFINITY;

  /** `timeoutMs`: a host that does not answer for so long is lost. */
  constructor(deps: ReplicaHostsDeps, timeoutMs: number) {
    this.#deps = deps;
    this.#timeoutMs = timeoutMs;
  }

  /** Undefined where there is no other host. `avoid`: the one that was lost last. */
  async choose(id: ObjectId, avoid: HostId | undefined): Promise<HostRecord | undefined> {
    const { host, domain, checksum } = this.#deps;
    const others = (await this.#others()).filter((other) => other.id !== host);
    const isNear = (other: HostRecord) => Number(domain !== undefined && other.domain === domain);
    const rank = (other: HostRecord) => [
      Number(other.id === avoid),
      isNear(other),
      this.#copies.get(other.id) ?? 0,
      checksum.crc32c(Buffer.from(`${id}${other.id}`)),
    ];
    const ranked = others.map((other) => ({ other, rank: rank(other) }));
    ranked.sort((left, right) => compareRanks(left.rank, right.rank));
    return ranked[0]?.other;
  }

  /** Whether this process of the host is still a member. */
  async isUp({ id, instance }: HostRecord): Promise<boolean> {
    return (await this.#others()).some((other) => other.id === id && other.instance === instance);
  }

  /** Counts the copies of a host while they are kept. */
  noteCopy(host: HostId, change: 1 | -1): void {
    this.#copies.set(host, (this.#copies.get(host) ?? 0) + change);
  }

  /** `unavailable`, `unknown_outcome`, and what the host's keeper of copies refuses with. */
  async ask(
    { id: host, address }: HostRecord,
    kind: number,
    request: Pick<RequestHead, 'id' | 'epoch' | 'generation' | 'offset'>,
    payload: Uint8Array = nothing,
  ): Promise<AnswerHead> {
    const head = encodeRequestHead({ ...request, session: 0, length: 0 });
    const options = { deadlineMs: this.#timeoutMs };
    const answer = await this.#deps.peers.call({ host, address }, { kind, head, payload }, options);
    return decodeAnswerHead(answer.head);
  }

  #others(): Promise<readonly HostRecord[]> {
    const now = this.#deps.clock.monotonicMs();
    if (now - this.#listedMs > listAgeMsMax) {
      this.#listedMs = now;
      this.#list = this.#deps.hosts.list();
    }
    return this.#list;
  }
}

/** Of equal lengths; the first difference decides. */
function compareRanks(left: readonly number[], right: readonly number[]): number {
  const at = left.findIndex((value, index) => value !== right[index]);
  return at === -1 ? 0 : (left[at] as number) - (right[at] as number);
}
