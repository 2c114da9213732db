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
  if (!names || !names.every((name) => typeof fields[name] === 'string')) refuse();
  if (names.includes('createdNs') && !/^\d{1,19}$/.test(fields['createdNs'] as string)) refuse();
  return fields as unknown as Request;
}

/** Throws `invalid`. */
export function decodeCareAnswer(payload: Uint8Array): CareAnswer {
  return parse(payload) as CareAnswer;
}

function parse(payload: Uint8Array): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(payload).toString());
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  } catch {
    // Told below.
  }
  return refuse();
}

function refuse(): never {
  throw new StorageError('invalid', 'a peer sent a request that is not well formed');
}
