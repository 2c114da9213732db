import fc from 'fast-check';
import { tenureStartsMax } from '../../src/core/changes.ts';

/** Starts of tenures as a head or a manifest names them, one at least. */
export const tenureStarts = fc
  .array(fc.record({ epochs: fc.integer({ min: 1, max: 9 }), changes: fc.nat(99) }), {
    minLength: 1,
    maxLength: tenureStartsMax,
  })
  .map((steps) => {
    let [epoch, after] = [0, -1];
    return steps.map(({ epochs, changes }) => {
      epoch += epochs;
      after += 1 + changes;
      return { epoch, after };
    });
  });
