/** A body in parts, some at a time. */

import { MiB } from '../core/units.ts';

/** A body above this goes in parts. */
export const multipartBytesMin = 16 * MiB;
export const partUpload: PartUpload = { partBytes: 8 * MiB, partsAtOnce: 4 };

export interface PartUpload {
  readonly partBytes: number;
  readonly partsAtOnce: number;
}

/**
 * Sends each part and gives the answers in the order of the parts. The body is not touched any
 * more once this settles: after a failure no part is begun, and those under way are waited for.
 */
export async function sendInParts<T>(
  body: Uint8Array,
  { partBytes, partsAtOnce }: PartUpload,
  send: (part: Uint8Array, index: number) => Promise<T>,
): Promise<T[]> {
  const answers: T[] = [];
  let next = 0;
  let isFailed = false;
  const sendOnes = async () => {
    while (!isFailed && next * partBytes < body.length) {
      const index = next;
      next += 1;
      try {
        answers[index] = await send(
          body.subarray(index * partBytes, (index + 1) * partBytes),
          index,
        );
      } catch (error) {
        isFailed = true;
        throw error;
      }
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: partsAtOnce }, sendOnes));
  const failed = ended.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  return answers;
}

/** The same bytes as the kind of buffer whose length the client library sees. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
