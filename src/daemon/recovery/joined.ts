/** Streams of values by their ids, all in ascending order, as one: of each id what there is of it. */

export type ById<T> = AsyncIterable<readonly [id: string, value: T]>;

export async function* joined<T extends object>(
  streams: {
    readonly [K in keyof T]: ById<T[K]>;
  },
): AsyncGenerator<{ readonly id: string } & Partial<T>> {
  const names = Object.keys(streams) as (keyof T)[];
  const readers = names.map((name) => streams[name][Symbol.asyncIterator]());
  const heads = await Promise.all(readers.map((reader) => reader.next()));
  for (;;) {
    let id: string | undefined;
    for (const { done, value } of heads)
      if (done !== true && (id === undefined || value[0] < id)) id = value[0];
    if (id === undefined) return;
    const found: Partial<T> = {};
    for (const [index, name] of names.entries()) {
      const head = heads[index];
      if (head === undefined || head.done === true || head.value[0] !== id) continue;
      found[name] = head.value[1];
      heads[index] = (await readers[index]?.next()) as IteratorResult<readonly [string, never]>;
    }
    yield { id, ...found };
  }
}
