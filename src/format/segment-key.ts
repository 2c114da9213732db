/** Object keys of segments: the epoch is in the name, so two tenures never write one key. */
export function segmentKey(epoch: number, sequence: number): string {
  const hex = (value: number) => value.toString(16).padStart(8, '0');
  return `segment/${hex(epoch)}/${hex(sequence)}`;
}
