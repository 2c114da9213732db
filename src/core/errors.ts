/**
 * The one error of operation. A code exists only where some caller acts differently on it; front
 * ends translate codes with total maps, so a new code breaks the build until each has its row.
 */

const errorCodes = [
  // The object and its place.
  'not_owner', // another host serves it: the router reroutes, it never escapes the router
  'fenced', // this host's right has ended for good: drop, don't flush
  'unavailable', // backend, registry or peer is away: wait and retry
  'unknown_outcome', // the write may have happened: find out before repeating it
  'compacted', // the registry has forgotten what a watch asks for: range anew
  'corrupt', // checksum or structure is wrong: report, never return as data
  'failed', // this copy can't be trusted any more (a failed fdatasync): move or wait
  'no_space',
  'read_only',
  'busy',
  'closed',
  // The caller's request.
  'invalid',
  'unsupported',
  'too_large',
  'not_permitted',
  'access_denied',
  // The namespace.
  'not_found',
  'exists',
  'not_empty',
  'not_directory',
  'is_directory',
  'name_too_long',
  'too_many_links',
  'no_attribute',
  'no_data', // lseek past the last data or the end of the file
] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** Of a text that came from elsewhere; undefined for a code of another version. */
export function toErrorCode(text: string): ErrorCode | undefined {
  return errorCodes.find((code) => code === text);
}

export interface StorageErrorOptions {
  /** `same`: the same request may succeed later. Everything else needs a different request. */
  readonly retry?: 'same' | 'never';
  readonly cause?: unknown;
  /** Facts for the log; not part of the message. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

const retriedByDefault: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['unavailable']);

export class StorageError extends Error {
  readonly code: ErrorCode;
  readonly retry: 'same' | 'never';
  readonly detail: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: StorageErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'StorageError';
    this.code = code;
    this.retry = options.retry ?? (retriedByDefault.has(code) ? 'same' : 'never');
    this.detail = options.detail;
  }
}

export function isStorageError(error: unknown, code?: ErrorCode): error is StorageError {
  return error instanceof StorageError && (code === undefined || error.code === code);
}

/** A line for people from whatever was thrown, with its chain of causes. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `: ${describeError(error.cause)}`;
  return `${error.message.trim().replaceAll(/\s*\n\s*/g, ' ')}${cause}`;
}
