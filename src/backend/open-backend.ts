/**
 * The stack of an object store from plain settings. From the wire up: the store; a deadline for
 * each request; metrics of each request; all buckets in one, where that is asked for; bounds on
 * what is under way; retries, seen in the monitor; the checks of the contract.
 */

import { isStorageError } from '../core/errors.ts';
import { MiB } from '../core/units.ts';
import type { Backend, CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Random } from '../ports/random.ts';
import { DirectoryBackend } from './directory-backend.ts';
import { withPrefixLayout } from './prefix-layout.ts';
import { S3Backend, type S3Settings } from './s3-backend.ts';
import { withChecks } from './with-checks.ts';
import { type DeadlineSettings, withDeadline } from './with-deadline.ts';
import { withLimit } from './with-limit.ts';
import { BackendMetrics, withMetrics } from './with-metrics.ts';
import { RetryMonitor, type RetrySettings, retrying, withRetry } from './with-retry.ts';

export interface BackendStackSettings {
  /** `prefix`: all buckets as prefixes in the one bucket that `bucketPrefix` names. */
  readonly layout: 'buckets' | 'prefix';
  /** What the names of this vPool's buckets start with; a bucket name itself. */
  readonly bucketPrefix: string;
  readonly requestsMax: number;
  readonly bytesInFlightMax?: number;
  readonly retry?: RetrySettings;
  readonly deadline?: DeadlineSettings;
}

export type BackendSettings = BackendStackSettings &
  ({ readonly kind: 'dir'; readonly path: string } | ({ readonly kind: 's3' } & S3Settings));

export interface BackendDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface OpenedBackend {
  readonly backend: Backend;
  /** This account reads and can't write: the vPool is served so. */
  readonly isReadOnly: boolean;
  readonly monitor: RetryMonitor;
  readonly metrics: BackendMetrics;
}

const bytesInFlightDefault = 256 * MiB;
const retryDefault: RetrySettings = { firstPauseMs: 100, pauseMsMax: 10_000 };
const deadlineDefault: DeadlineSettings = { attemptMs: 30_000, bytesPerSecondMin: 65_536 };

/**
 * A store that is away is waited for, until the signal aborts; settings that can't be right reject
 * with `invalid`. `onMonitor` is told where to see what is being waited for.
 */
export async function openBackend(
  settings: BackendSettings,
  deps: BackendDeps,
  options: CallOptions & { readonly onMonitor?: (monitor: RetryMonitor) => void } = {},
): Promise<OpenedBackend> {
  const { clock, log } = deps;
  const monitor = new RetryMonitor(clock, log);
  options.onMonitor?.(monitor);
  const retry = retrying({ ...deps, monitor }, settings.retry ?? retryDefault);
  const bare =
    settings.kind === 'dir'
      ? await retry(() => DirectoryBackend.open(settings.path), options)
      : S3Backend.open(settings);
  try {
    const isReadOnly = await retry(() => learnRights(bare, settings, deps, options), options);
    return { ...stackOn(bare, settings, { ...deps, monitor }), isReadOnly };
  } catch (error) {
    await bare.close();
    throw error;
  }
}

/** What every store is used through. */
export function stackOn(
  bare: Backend,
  settings: BackendStackSettings,
  deps: BackendDeps & { readonly monitor: RetryMonitor },
): Omit<OpenedBackend, 'isReadOnly'> {
  const { clock, monitor } = deps;
  const metrics = new BackendMetrics(clock);
  const bounded = withDeadline(bare, deps, settings.deadline ?? deadlineDefault);
  const counted = withMetrics(bounded, metrics);
  const laid =
    settings.layout === 'prefix' ? withPrefixLayout(counted, settings.bucketPrefix) : counted;
  const bytesMax = settings.bytesInFlightMax ?? bytesInFlightDefault;
  const limited = withLimit(laid, settings.requestsMax, { bytesMax });
  const backend = withChecks(withRetry(limited, deps, settings.retry ?? retryDefault));
  return { backend, monitor, metrics };
}

/**
 * Whether the account can only read. It is tried in the one bucket where there is one, otherwise in
 * a bucket that is gone afterwards; an S3 server is asked for its conditions on the way.
 */
async function learnRights(
  store: Backend,
  { layout, bucketPrefix }: BackendStackSettings,
  { random, log }: BackendDeps,
  options: CallOptions,
): Promise<boolean> {
  const suffix = Buffer.from(random.bytes(4)).toString('hex');
  const bucket = layout === 'prefix' ? bucketPrefix : `${bucketPrefix}-probe-${suffix}`;
  try {
    if (store instanceof S3Backend) await store.probe(bucket, options);
    else await store.createBucket(bucket, options);
  } catch (error) {
    if (!isStorageError(error, 'read_only')) throw error;
    // Who may not even read has the wrong credentials. Else reading goes on, and each put tells.
    if (layout === 'prefix') await store.bucket(bucket).list({ ...options, prefix: '', limit: 1 });
    else await store.listBuckets({ ...options, prefix: bucketPrefix });
    log.warn({ error: error.message }, 'object store is read-only for this account');
    return true;
  } finally {
    if (layout === 'buckets') await store.deleteBucket(bucket, options).catch(() => undefined);
  }
  log.info({ conditionalPut: store.conditionalPut }, 'object store answers');
  return false;
}
