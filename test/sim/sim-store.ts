/**
 * The object store as one process reaches it: slow, throttled, refusing, losing answers, storing what
 * nobody waits for any more, listing what was true a while ago. Whatever becomes of it, a name is never
 * written twice with different content.
 */

import type { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { StorageError } from '../../src/core/errors.ts';
import type {
  Backend,
  BlobStore,
  CallOptions,
  ConditionalPut,
} from '../../src/ports/blob-store.ts';
import { untilAborted } from '../../src/registry/until-aborted.ts';
import type { Coverage, ProtocolStep } from './protocol.ts';
import { stepOfDeletion, stepOfPut } from './protocol.ts';
import type { SimProcess } from './sim-process.ts';

/** How long a request is on its way that nobody waits for any more. */
export const lateMsMax = 20_000;
const connectMs = 3000;
const flipsMax = 1;
const tailShare = 0.05;

export interface StoreFaults {
  isAway: boolean;
  isFull: boolean;
  /** Hosts that it does not hear. */
  readonly deafTo: Set<string>;
  /** Of each call, from 0 to 1. */
  trouble: number;
  /** Milliseconds that a call may take longer, and that a few of them do at all times. */
  slowMs: number;
  readonly tailMs: number;
  conditionalPut: ConditionalPut;
  /** How old a listing may be. */
  staleMs: number;
  /** Of what is read, from 0 to 1, so much has a byte that is wrong. */
  flips: number;
}

/** What all hosts share of it. */
export interface SharedStore {
  readonly backend: MemoryBackend;
  readonly faults: StoreFaults;
  readonly coverage: Coverage;
  /** How often in a row what was read of a blob was wrong. */
  readonly flipped: Map<string, number>;
  /** When blobs were put, by bucket and key. */
  readonly putAtMs: Map<string, number>;
  readonly nowMs: () => number;
  /** What must never happen. */
  readonly violated: (what: string) => void;
}

export function simStore(process: SimProcess, host: string, shared: SharedStore): Backend {
  const { backend: inner, faults, flipped, coverage } = shared;
  const call: Call = async (label, bytes, act, { signal } = {}, step) => {
    signal?.throwIfAborted();
    process.assertAlive();
    const over = coverage.begin(step, host);
    const met = (fault: 'store away' | 'store lost') => coverage.met(step, fault);
    try {
      return await untilAborted(travel(process, host, faults, { label, bytes, met }, act), signal);
    } finally {
      over();
    }
  };
  const damaged = (key: string, body: Uint8Array): Uint8Array => {
    const before = flipped.get(key) ?? 0;
    // On its way, not where it lies: who asks again and again gets it right.
    if (process.random.fraction() >= faults.flips || before === flipsMax) {
      flipped.delete(key);
      return body;
    }
    flipped.set(key, before + 1);
    const wrong = new Uint8Array(body);
    const at = Math.floor(process.random.fraction() * wrong.length);
    wrong[at] = (wrong[at] ?? 0) ^ 1;
    return wrong;
  };
  return {
    get conditionalPut() {
      return faults.conditionalPut;
    },
    createBucket: (name, options) =>
      call('create bucket', 0, () => inner.createBucket(name), options),
    deleteBucket: (name, options) =>
      call('delete bucket', 0, () => inner.deleteBucket(name), options),
    listBuckets: (options) => call('list buckets', 0, () => inner.listBuckets(options), options),
    bucket: (name) => bucketOf(inner.bucket(name), name, shared, call, damaged),
    space: async () => undefined,
    close: async () => {},
  };
}

type Call = <T>(
  label: string,
  bytes: number,
  act: () => Promise<T>,
  options?: CallOptions,
  step?: ProtocolStep,
) => Promise<T>;

function bucketOf(
  inner: BlobStore,
  name: string,
  shared: SharedStore,
  call: Call,
  damaged: (key: string, body: Uint8Array) => Uint8Array,
): BlobStore {
  const { backend, faults, putAtMs, violated } = shared;
  const isNew = (key: string, nowMs: number) =>
    nowMs - (putAtMs.get(`${name}/${key}`) ?? 0) < faults.staleMs;
  return {
    put: (key, body, options = {}) => {
      const sent = new Uint8Array(body);
      return call(
        'put',
        body.length,
        async () => {
          if (faults.isFull) throw new StorageError('no_space', 'the store is full');
          const there = backend.blobs(name).get(key);
          if (there && Buffer.compare(there, sent) !== 0)
            violated(`blob ${name}/${key} was written twice with different content`);
          const honoured = faults.conditionalPut === 'honoured' && options.if === 'absent';
          await inner.put(key, sent, honoured ? { if: 'absent' } : {});
          putAtMs.set(`${name}/${key}`, shared.nowMs());
        },
        options,
        stepOfPut(key),
      );
    },
    get: (key, options = {}) =>
      call(
        'get',
        options.length ?? 4096,
        async () => {
          const range = { offset: options.offset ?? 0, ...rangeOf(options.length) };
          return damaged(`${name}/${key} ${range.offset}`, await inner.get(key, range));
        },
        options,
      ),
    list: (options) =>
      call(
        'list',
        0,
        async () => {
          const page = await inner.list(options);
          if (faults.staleMs === 0) return page;
          const nowMs = shared.nowMs();
          return { ...page, blobs: page.blobs.filter(({ key }) => !isNew(key, nowMs)) };
        },
        options,
      ),
    deleteMany: (keys, options) =>
      call('delete', 0, () => inner.deleteMany(keys), options, stepOfDeletion(keys)),
  };
}

const rangeOf = (length: number | undefined) => (length === undefined ? {} : { length });

function travel<T>(
  process: SimProcess,
  host: string,
  faults: StoreFaults,
  {
    label,
    bytes,
    met,
  }: {
    readonly label: string;
    readonly bytes: number;
    readonly met: (fault: 'store away' | 'store lost') => void;
  },
  act: () => Promise<T>,
): Promise<T> {
  const { random, scheduler } = process;
  const fate = random.fraction();
  const fail = (ms: number, detail: Readonly<Record<string, unknown>> = {}) =>
    process.answer(ms, `${label} refused`, () => {
      throw new StorageError('unavailable', 'the store does not answer', { detail });
    });
  const refuse: typeof fail = (ms, detail) => {
    met('store away');
    return fail(ms, detail);
  };
  if (faults.isAway) return refuse(fate < 0.5 ? 5 : connectMs);
  if (faults.deafTo.has(host)) return refuse(connectMs);
  const { trouble } = faults;
  if (fate < trouble * 0.3) return refuse(2);
  if (fate < trouble * 0.4) return refuse(2, { retryAfterMs: 200 });
  const isLate = fate < trouble * 0.6;
  const isLost = isLate || fate < trouble;
  const extraMs = random.fraction() < tailShare ? faults.tailMs : faults.slowMs;
  const tookMs = 1 + random.fraction() * (8 + extraMs) + bytes / 100_000;
  const answered = new Promise<T>((resolve, reject) => {
    // It happens at the store, whatever becomes of who asked.
    const happensMs = isLate ? lateMsMax * random.fraction() : tookMs;
    scheduler.after(happensMs, `store ${label}`, () => {
      const settle = (end: () => void) => {
        if (!isLost) process.later(0.2, label, end);
      };
      act().then(
        (value) => settle(() => resolve(value)),
        (error: unknown) => settle(() => reject(error as Error)),
      );
    });
  });
  if (!isLost) return answered;
  met('store lost');
  return fail(isLate ? connectMs * fate : tookMs);
}
