/**
 * One copy of a journal's tail on one host, as the owner sees it: what was sent and how far it has
 * come. One append is under way at a time, and what is appended meanwhile goes with the next; so it
 * is with syncs. Any failure ends the session for good: another copy is another session.
 */

import { StorageError } from '../core/errors.ts';
import type { Epoch, ObjectId } from '../core/units.ts';
import { peerKind } from '../format/peer-message.ts';
import type { ReplicaCopy } from '../ports/tenure.ts';
import type { HostRecord } from '../registry/host-records.ts';
import type { Journal } from './journal.ts';
import { JournalFollower } from './journal-follower.ts';
import type { ReplicaHosts } from './replica-hosts.ts';

export interface ReplicaSessionDeps {
  readonly hosts: ReplicaHosts;
  readonly journal: Journal;
  readonly id: ObjectId;
  readonly epoch: Epoch;
  /** All records up to it are on the backend. */
  readonly committedSequence: () => number;
  /** The copy has come further, or the session was lost. */
  readonly onProgress: () => void;
}

/** The name of a copy, as its owner and its host build it. */
export function copyName(epoch: number, attempt: number): string {
  return `${epoch}.${attempt}`;
}

export class ReplicaSession {
  readonly copy: ReplicaCopy;
  readonly #deps: ReplicaSessionDeps;
  readonly #host: HostRecord;
  readonly #attempt: number;
  readonly #follower: JournalFollower;
  readonly #lost = Promise.withResolvers<never>();
  #isOver = false;
  #appended: number;
  #durable: number;
  #trimmed: number;
  #sending: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  #nextSync: Promise<void> | undefined;

  private constructor(deps: ReplicaSessionDeps, host: HostRecord, attempt: number) {
    const committed = deps.committedSequence();
    this.#deps = deps;
    this.#host = host;
    this.#attempt = attempt;
    this.copy = { host: host.id, copy: copyName(deps.epoch, attempt) };
    this.#follower = new JournalFollower(deps.journal, committed);
    this.#appended = committed;
    this.#durable = committed;
    this.#trimmed = committed;
    this.#lost.promise.catch(() => {});
  }

  /** `attempt`: one more than that of any copy of this tenure before. */
  static async begin(deps: ReplicaSessionDeps, host: HostRecord, attempt: number) {
    const session = new ReplicaSession(deps, host, attempt);
    await session.#ask(peerKind.replicaBegin);
    deps.hosts.noteCopy(host.id, 1);
    session.note();
    return session;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Rejects when the session is over, with the reason. */
  get lost(): Promise<never> {
    return this.#lost.promise;
  }

  /** Sequence up to which all is in the copy, or on the backend. */
  get appended(): number {
    return Math.max(this.#appended, this.#deps.committedSequence());
  }

  /** The same of what is durable. */
  get durable(): number {
    return Math.max(this.#durable, this.#deps.committedSequence());
  }

  /** The journal has grown, or was trimmed. */
  note(): void {
    if (this.#isOver || this.#sending) return;
    const { journal, committedSequence } = this.#deps;
    if (journal.lastSequence <= this.#appended && committedSequence() <= this.#trimmed) return;
    this.#sending = this.#send()
      .catch((error: unknown) => this.end(error))
      .finally(() => {
        this.#sending = undefined;
        this.note();
      });
  }

  /** Resolves when all that is in the copy now is durable there. */
  sync(): Promise<void> {
    if (this.#isOver) return this.#lost.promise;
    if (!this.#syncing) {
      this.#syncing = this.#sync();
      return this.#syncing;
    }
    this.#nextSync ??= this.#syncing.then(() => {
      this.#nextSync = undefined;
      this.#syncing = this.#sync();
      return this.#syncing;
    });
    return this.#nextSync;
  }

  /** Whether the process that has the copy is still a member of the vPool. */
  isHostUp(): Promise<boolean> {
    return this.#deps.hosts.isUp(this.#host);
  }

  /** No more is sent. */
  end(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#deps.hosts.noteCopy(this.#host.id, -1);
    this.#lost.reject(reason as Error);
    this.#deps.onProgress();
  }

  /** Tells the host that the copy is not needed; if it does not hear, it finds out by itself. */
  async discard(): Promise<void> {
    this.end(new StorageError('closed', 'the copy is not needed any more'));
    await this.#ask(peerKind.replicaEnd).catch(() => {});
  }

  async #send(): Promise<void> {
    const { records, lastSequence } = await this.#follower.next();
    if (this.#isOver) return;
    const trimmed = this.#deps.committedSequence();
    await this.#ask(peerKind.replicaAppend, trimmed, records);
    this.#trimmed = trimmed;
    this.#appended = lastSequence;
    this.#deps.onProgress();
  }

  async #sync(): Promise<void> {
    const through = this.#appended;
    try {
      await this.#ask(peerKind.replicaSync);
      this.#durable = Math.max(this.#durable, through);
      this.#deps.onProgress();
    } catch (error) {
      this.end(error);
      throw error;
    } finally {
      this.#syncing = undefined;
    }
  }

  async #ask(kind: number, offset = 0, payload?: Uint8Array): Promise<void> {
    const { hosts, id, epoch } = this.#deps;
    const request = { id, epoch, generation: this.#attempt, offset };
    await hosts.ask(this.#host, kind, request, payload);
  }
}
