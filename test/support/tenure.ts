import { StorageError } from '../../src/core/errors.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { epoch } from '../../src/core/units.ts';
import type { Tail, Tenure } from '../../src/ports/tenure.ts';

export interface TestTenure extends Tenure {
  end(): void;
}

export function tenureOf(objectId: ObjectId, number: number, tail: Tail = 'owner'): TestTenure {
  const ending = new AbortController();
  return {
    objectId,
    epoch: epoch(number),
    tail,
    signal: ending.signal,
    assertLive() {
      ending.signal.throwIfAborted();
    },
    end: () => ending.abort(new StorageError('fenced', 'the tenure has ended')),
  };
}
