/** Where the blocks of a large disk lie that is hardly filled: one in each 26, at no fixed distance. */

const stride = 26;

/** The block of this number, from 0 on, in ascending order. */
export function scatteredBlock(index: number): number {
  return index * stride + ((Math.imul(index, 0x9e37_79b1) >>> 0) % stride);
}
