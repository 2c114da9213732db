/** What an administrator asks of a volume's owner, between hosts: JSON in UTF-8. */

import { StorageError } from '../core/errors.ts';
import type { CareAnswer, CareRequest, HoldRequest } from '../ports/volume-care.ts';

type Request = CareRequest | HoldRequest;

const texts: Readonly<Record<Request['do'], readonly string[]>> = {
  snapshot: ['name', 'createdNs'],
  settle: ['name', 'createdNs'],
  collect: [],
  compact: ['how'],
  flatten: [],
  space: [],
  recount: [],
  freeze: ['createdNs'],
  hold: ['token', 'name'],
  mark: ['token', 'name', 'createdNs'],
  letGo: ['token'],
  copied: ['as'],
  rollBack: ['name', 'createdNs'],
  empty: [],
};

export function encodeCare(message: Request | CareAnswer): Uint8Array {
  return Buffer.from(JSON.stringify(message));
}

/** Throws `invalid`. */
export function decodeCareRequest(payload: Uint8Array): Request {
  const fields = parse(payload);
  const what = fields['do'];
  const names = typeof what === 'string' && Object.hasOwn(texts, what) && texts[what as 'space'];
  if (!names || !names.every((name) => isText(fields[name]))) refuse();
  if (names.includes('createdNs') && !/^\d{1,19}$/.test(fields['createdNs'] as string)) refuse();
  if (names.includes('how') && !['plan', 'run'].includes(fields['how'] as string)) refuse();
  if (![fields['before'], fields['as']].every((text) => text === undefined || isText(text)))
    refuse();
  return fields as unknown as Request;
}

/** What each part of an answer has to be. */
const answers: Readonly<Record<keyof CareAnswer, (value: unknown) => boolean>> = {
  flattened: (value) => isFlag(value, 'isDone') && hasCounts(value, 'doneBytes', 'copiedBytes'),
  isKept: (value) => typeof value === 'boolean',
  held: (value) => value === 'volume' || value === 'file',
  content: (value) => hasCounts(value, 'sizeBytes', 'allocatedBytes'),
  space: (value) => hasCounts(value, 'uniqueBytes', 'sharedBytes'),
  compaction: (value) =>
    hasCounts(
      value,
      ...(['segments', 'storedBytes', 'liveBytes', 'victims', 'victimBytes'] as const),
      ...(['rewrittenBytes', 'reclaimedBytes'] as const),
    ),
};

/** Throws `invalid`. */
export function decodeCareAnswer(payload: Uint8Array): CareAnswer {
  const fields = parse(payload);
  for (const [name, isFit] of Object.entries(answers))
    if (fields[name] !== undefined && !isFit(fields[name])) refuse();
  return fields as CareAnswer;
}

const isText = (value: unknown) => typeof value === 'string';

/** Of whatever may have fields. */
const fieldOf = (value: unknown, name: string) => Object(value)[name] as unknown;

const isFlag = (value: unknown, name: string) => typeof fieldOf(value, name) === 'boolean';

function hasCounts(value: unknown, ...names: readonly string[]): boolean {
  return names.every((name) => {
    const count = fieldOf(value, name);
    return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0;
  });
}

function parse(payload: Uint8Array): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(payload).toString());
    const isRecord = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
    if (isRecord) return parsed as Record<string, unknown>;
  } catch {
    // Told below.
  }
  return refuse();
}

function refuse(): never {
  throw new StorageError('invalid', 'a peer sent a request that is not well formed');
}
