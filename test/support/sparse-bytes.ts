/** Bytes with holes, in memory: whole chunks are there or not. */

const chunkBytes = 64 * 1024;

export class SparseBytes {
  readonly #chunks = new Map<number, Uint8Array>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get allocatedBytes(): number {
    return this.#chunks.size * chunkBytes;
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    this.#eachPart(offset, length, (index, from, at, bytes) => {
      const chunk = this.#chunks.get(index);
      if (chunk === undefined) into.fill(0, at, at + bytes);
      else into.set(bytes === chunkBytes ? chunk : chunk.subarray(from, from + bytes), at);
    });
    return length;
  }

  write(offset: number, data: Uint8Array): void {
    this.#eachPart(offset, data.length, (index, from, at, bytes) => {
      let chunk = this.#chunks.get(index);
      if (chunk === undefined) this.#chunks.set(index, (chunk = new Uint8Array(chunkBytes)));
      chunk.set(bytes === data.length ? data : data.subarray(at, at + bytes), from);
    });
    this.#size = Math.max(this.#size, offset + data.length);
  }

  trim(offset: number, length: number): void {
    this.#eachPart(offset, Math.min(length, this.#size - offset), (index, from, _at, bytes) => {
      if (bytes === chunkBytes) this.#chunks.delete(index);
      else this.#chunks.get(index)?.fill(0, from, from + bytes);
    });
  }

  resize(bytes: number): void {
    if (bytes < this.#size) {
      const last = Math.floor(bytes / chunkBytes);
      for (const index of [...this.#chunks.keys()]) if (index > last) this.#chunks.delete(index);
      this.#chunks.get(last)?.fill(0, bytes - last * chunkBytes);
    }
    this.#size = bytes;
  }

  seek(offset: number, what: 'data' | 'hole'): number | undefined {
    if (offset >= this.#size) return undefined;
    for (let at = offset; at < this.#size; ) {
      const index = Math.floor(at / chunkBytes);
      if (this.#chunks.has(index) === (what === 'data')) return at;
      at = (index + 1) * chunkBytes;
    }
    return what === 'hole' ? this.#size : undefined;
  }

  /** Calls `visit` for each chunk's share: its index, where in it, where in the whole, bytes. */
  #eachPart(
    offset: number,
    length: number,
    visit: (index: number, from: number, at: number, bytes: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const index = Math.floor((offset + at) / chunkBytes);
      const from = offset + at - index * chunkBytes;
      const bytes = Math.min(chunkBytes - from, length - at);
      visit(index, from, at, bytes);
      at += bytes;
    }
  }
}
