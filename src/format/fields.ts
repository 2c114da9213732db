/** What decoders ask of fields, in little-endian. */

const wordSize = 0x1_0000_0000;

/** A u64; undefined where a number can't hold it exactly. */
export function countAt(view: DataView, at: number): number | undefined {
  const high = view.getUint32(at + 4, true);
  return high < 0x20_0000 ? high * wordSize + view.getUint32(at, true) : undefined;
}

/** What is reserved is zero, or says something that nobody here understands. */
export function isZero(view: DataView, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) if (view.getUint8(at) !== 0) return false;
  return true;
}
