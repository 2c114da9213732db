/**
 * What an S3 server says, as errors of the port: one total map. A server's own code counts first,
 * then its status, and what never reached a server or came back damaged is `unavailable`. What an
 * administrator must mend is `invalid` and says what to mend.
 */

import { type ErrorCode, StorageError } from '../core/errors.ts';

/** The parts of the client's errors that say something. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  /** Of the network, as `ECONNREFUSED`. */
  readonly code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: {
    readonly statusCode?: number;
    readonly headers?: Readonly<Record<string, string | undefined>>;
  };
  /** Of a network with several addresses: one error each. */
  readonly errors?: readonly Failure[];
}

export interface FailedCall {
  readonly what: string;
  readonly writes: boolean;
  /** Some call has worked before: what is wrong now was right then, and may be again. */
  readonly hasWorked: boolean;
}

const credentialsHint = 'check the credentials';
const regionHint = 'check the region and the endpoint';
const clockHint = "check this machine's clock";
const rightsHint = 'check the rights of these credentials';
const certificateHint = 'check the certificate of the endpoint';

interface Meaning {
  readonly code: ErrorCode;
  readonly hint?: string;
}

const away: Meaning = { code: 'unavailable' };
const wrongCredentials: Meaning = { code: 'invalid', hint: credentialsHint };
const wrongRegion: Meaning = { code: 'invalid', hint: regionHint };

/** By the code in the answer's body, or the name of the client's own error. */
const meanings: Readonly<Record<string, Meaning>> = {
  // What is not there, or is.
  NoSuchKey: { code: 'not_found' },
  NoSuchBucket: { code: 'not_found' },
  NotFound: { code: 'not_found' },
  PreconditionFailed: { code: 'exists' },
  // Two calls in each other's way: the same call again finds out.
  ConditionalRequestConflict: away,
  OperationAborted: away,
  BucketNotEmpty: away,
  NoSuchUpload: away,
  // Damaged or cut short on its way.
  BadDigest: away,
  IncompleteBody: away,
  RequestTimeout: away,
  XAmzContentSHA256Mismatch: away,
  // Trouble there.
  InternalError: away,
  ServiceUnavailable: away,
  SlowDown: away,
  Throttling: away,
  TooManyRequests: away,
  // Tokens are renewed, clocks are set.
  ExpiredToken: { code: 'unavailable', hint: credentialsHint },
  RequestTimeTooSkewed: { code: 'unavailable', hint: clockHint },
  // No room.
  QuotaExceeded: { code: 'no_space' },
  InsufficientStorage: { code: 'no_space' },
  XMinioStorageFull: { code: 'no_space' },
  EntityTooLarge: { code: 'too_large' },
  // Settings.
  AuthorizationHeaderMalformed: wrongRegion,
  CredentialsProviderError: wrongCredentials,
  IllegalLocationConstraintException: wrongRegion,
  InvalidAccessKeyId: wrongCredentials,
  InvalidBucketName: { code: 'invalid' },
  InvalidLocationConstraint: wrongRegion,
  InvalidToken: wrongCredentials,
  PermanentRedirect: wrongRegion,
  SignatureDoesNotMatch: wrongCredentials,
  NotImplemented: { code: 'unsupported' },
};

const byStatus: Readonly<Record<number, Meaning>> = {
  301: wrongRegion,
  307: wrongRegion,
  401: wrongCredentials,
  404: { code: 'not_found' },
  408: away,
  409: away,
  412: { code: 'exists' },
  413: { code: 'too_large' },
  425: away,
  429: away,
  501: { code: 'unsupported' },
  507: { code: 'no_space' },
};

const certificateErrors: ReadonlySet<string> = new Set([
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

export function nameOf(error: unknown): string {
  return (error as Failure).name ?? '';
}

/** Undefined where no server answered. */
export function statusOf(error: unknown): number | undefined {
  const { $metadata, $response } = error as Failure;
  return $metadata?.httpStatusCode ?? $response?.statusCode;
}

function meaningOf(failure: Failure, call: FailedCall): Meaning {
  const { name = '', code = '' } = failure;
  const status = statusOf(failure);
  if (name === 'CredentialsProviderError' && call.hasWorked)
    return { code: 'unavailable', hint: credentialsHint };
  const named = meanings[name];
  if (named) return named;
  if (certificateErrors.has(code)) return { code: 'invalid', hint: certificateHint };
  const known = byStatus[status ?? 0];
  if (known) return known;
  // Signed by somebody known, who may not do this. A list of deletions has no status of its own.
  if (name === 'AccessDenied' || status === 403 || status === 405)
    return { code: call.writes ? 'read_only' : 'invalid', hint: rightsHint };
  return status !== undefined && status >= 400 && status < 500 ? { code: 'invalid' } : away;
}

/** Seconds, or a date that is taken against the server's own. */
export function retryAfterMs(
  headers: Readonly<Record<string, string | undefined>>,
): number | undefined {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text)
    ? Number(text) * 1000
    : Date.parse(text) - Date.parse(headers['date'] ?? '');
  return Number.isFinite(ms) && ms > 0 ? ms : undefined;
}

/** What the server or the network calls it: the code and the text of the error. */
function describe(failure: Failure): string {
  const status = statusOf(failure);
  const inner = failure.errors?.[0] ?? failure;
  const name = failure.code ?? failure.name ?? 'error';
  const message = (inner.message ?? '').split('\n', 1)[0] ?? '';
  return `${name}${status === undefined ? '' : ` (${status})`}${message ? `: ${message}` : ''}`;
}

export function translateS3Error(error: unknown, call: FailedCall): StorageError {
  if (error instanceof StorageError) return error;
  const failure = error as Failure;
  const { code, hint } = meaningOf(failure, call);
  const pauseMs = retryAfterMs(failure.$response?.headers ?? {});
  const text = `S3 ${call.what}: ${describe(failure)}`;
  return new StorageError(code, hint === undefined ? text : `${text} (${hint})`, {
    cause: error,
    detail: {
      status: statusOf(failure),
      ...(pauseMs !== undefined && { retryAfterMs: pauseMs }),
    },
  });
}
