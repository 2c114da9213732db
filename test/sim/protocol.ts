/**
 * The steps of Wharf's protocols, as what a process asks of others shows them: which ones are under way
 * at which hosts, and which faults have met them. A fault can lie in wait for a step, so that even those
 * that take a tenth of a millisecond meet all of them.
 */

import type { ObjectId } from '../../src/core/units.ts';
import { decodeHead } from '../../src/format/head.ts';
import { peerKind } from '../../src/format/peer-message.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import type { Transaction, Write } from '../../src/ports/registry.ts';
import type { MemoryStore } from '../../src/registry/memory-store.ts';
import { decodeObject } from '../../src/registry/object-records.ts';
import { decodeSnapshot } from '../../src/registry/snapshot-records.ts';

export const protocolSteps = [
  ...(['join', 'claim', 'take over', 'leave to copy', 'forward'] as const),
  ...(['prepare', 'park', 'tail', 'give'] as const),
  ...(['record copy', 'record no copy', 'record backend'] as const),
  ...(['copy begin', 'copy append', 'copy sync'] as const),
  ...(['read SSD', 'fdatasync', 'put segment', 'commit cut', 'checkpoint', 'collect'] as const),
  ...(['snapshot', 'forget', 'roll back', 'clone'] as const),
  ...(['put piece', 'commit file', 'change names'] as const),
] as const;
export type ProtocolStep = (typeof protocolSteps)[number];

export const faultKinds = [
  ...(['kill', 'power', 'pause', 'cut link'] as const),
  ...(['registry away', 'registry lost', 'store away', 'store lost'] as const),
] as const;
export type FaultKind = (typeof faultKinds)[number];

type Trap = (hosts: readonly string[]) => void;
const nothing = () => {};

export class Coverage {
  /** How often a step was taken, `step/taken`, and met a fault: `step/fault`. */
  readonly counts = new Map<string, number>();
  /** Steps under way, by host. */
  readonly #underWay = new Map<string, Map<ProtocolStep, number>>();
  #traps = new Map<ProtocolStep, Trap>();
  /** Whether who lies in wait may still strike. */
  isArmed = true;

  /** The step is under way at these hosts, until the function that this gives is called. */
  begin(step: ProtocolStep | undefined, ...hosts: readonly string[]): () => void {
    if (step === undefined) return nothing;
    this.#count(step, 'taken');
    const counts = hosts.map((host) => {
      const steps = this.#underWay.get(host) ?? new Map<ProtocolStep, number>();
      this.#underWay.set(host, steps);
      steps.set(step, (steps.get(step) ?? 0) + 1);
      return steps;
    });
    this.#spring(step, hosts);
    return () => {
      for (const steps of counts) steps.set(step, (steps.get(step) ?? 1) - 1);
    };
  }

  met(step: ProtocolStep | undefined, fault: FaultKind): void {
    if (step !== undefined) this.#count(step, fault);
  }

  /** What happens to a host meets all that is under way there. */
  strike(host: string, fault: 'kill' | 'power' | 'pause'): void {
    for (const [step, count] of this.#underWay.get(host) ?? [])
      if (count > 0) this.met(step, fault);
    if (fault !== 'pause') this.#underWay.delete(host);
  }

  /** The next time that the step is taken, by whomever. */
  lieInWait(step: ProtocolStep, trap: Trap): void {
    this.#traps.set(step, trap);
  }

  disarm(): void {
    this.isArmed = false;
    this.#traps = new Map();
  }

  #count(step: ProtocolStep, what: FaultKind | 'taken'): void {
    const cell = `${step}/${what}`;
    this.counts.set(cell, (this.counts.get(cell) ?? 0) + 1);
  }

  #spring(step: ProtocolStep, hosts: readonly string[]): void {
    const trap = this.#traps.get(step);
    if (!trap) return;
    this.#traps.delete(step);
    trap(hosts);
  }
}

/** Steps that nobody has taken, and faults that have met none. */
export function neverMet(counts: Coverage['counts']): readonly string[] {
  const cells = [...counts.keys()];
  const faults = faultKinds.filter((fault) => !cells.some((cell) => cell.endsWith(`/${fault}`)));
  return [...protocolSteps.filter((step) => !counts.has(`${step}/taken`)), ...faults];
}

/** How often each step was taken, and met each fault, a line for each step. */
export function tableOf(counts: Coverage['counts']): string {
  const columns = ['taken', ...faultKinds];
  const lineOf = (step: string, cell: (column: string) => string | number) =>
    step.padEnd(15) + columns.map((column) => String(cell(column)).padStart(14)).join('');
  const lines = protocolSteps.map((step) =>
    lineOf(step, (column) => counts.get(`${step}/${column}`) ?? '-'),
  );
  return [lineOf('', (column) => column), ...lines].join('\n');
}

const ofMessages: Readonly<Record<number, ProtocolStep>> = {
  [peerKind.read]: 'forward',
  [peerKind.write]: 'forward',
  [peerKind.trim]: 'forward',
  [peerKind.flush]: 'forward',
  [peerKind.append]: 'forward',
  [peerKind.movePrepare]: 'prepare',
  [peerKind.movePark]: 'park',
  [peerKind.tailRead]: 'tail',
  [peerKind.moveGive]: 'give',
  [peerKind.replicaBegin]: 'copy begin',
  [peerKind.replicaAppend]: 'copy append',
  [peerKind.replicaSync]: 'copy sync',
};

export function stepOfMessage(kind: number): ProtocolStep | undefined {
  return ofMessages[kind];
}

export function stepOfPut(key: string): ProtocolStep | undefined {
  if (key.startsWith('segment/')) return 'put segment';
  return key.startsWith('file/') ? 'put piece' : undefined;
}

export function stepOfDeletion([key = '']: readonly string[]): ProtocolStep | undefined {
  return key.startsWith('segment/') ? 'collect' : undefined;
}

/** What a transaction is for, by the keys that it writes and what stands there. */
export function stepOfTransaction(
  host: string,
  { writes }: Transaction,
  store: MemoryStore,
  checksum: Checksum,
): ProtocolStep | undefined {
  const byKind = new Map(writes.map((write) => [kindOf(write.key), write]));
  if (byKind.has('H')) return 'join';
  if (byKind.has('p')) return 'clone';
  const [head, snapshot, object] = [byKind.get('hv'), byKind.get('s'), byKind.get('o')];
  if (snapshot && 'delete' in snapshot) return 'forget';
  if (head && 'put' in head) return stepOfHead(head, snapshot, store, checksum);
  if (byKind.has('hf')) return 'commit file';
  if (object && 'put' in object) return stepOfRecord(host, object, store);
  return byKind.has('i') || byKind.has('d') ? 'change names' : undefined;
}

const kindOf = (key: string) => (key.startsWith('h') ? key.slice(0, 2) : key.slice(0, 1));

type Put = Extract<Write, { readonly put: Uint8Array }>;

function stepOfHead(
  { key, put }: Put,
  snapshot: Write | undefined,
  store: MemoryStore,
  checksum: Checksum,
): ProtocolStep {
  if (snapshot && 'put' in snapshot) {
    const { head } = decodeSnapshot(snapshot.key, snapshot.put);
    return Buffer.compare(head, put) === 0 ? 'snapshot' : 'roll back';
  }
  const before = store.get(key)?.value;
  if (!before) return 'commit cut';
  const [old, next] = [before, put].map((bytes) => decodeHead(bytes, checksum).root.join());
  return old === next ? 'commit cut' : 'checkpoint';
}

function stepOfRecord(
  host: string,
  { key, put }: Put,
  store: MemoryStore,
): ProtocolStep | undefined {
  const before = store.get(key);
  if (!before) return undefined;
  const id = key.slice(1) as ObjectId;
  const old = decodeObject(id, before.value, 0);
  const next = decodeObject(id, put, 0);
  const isGiven = next.owner !== old.owner && old.owner === host;
  if (isGiven) return typeof next.tail === 'object' ? 'leave to copy' : 'give';
  if (next.owner !== old.owner) return 'take over';
  if (next.epoch !== old.epoch) return 'claim';
  if (typeof next.tail === 'object') return 'record copy';
  return next.tail === 'owner' ? 'record no copy' : 'record backend';
}
