/** Results in their order, of which up to `count` are on their way while the first one is used. */
export async function* ahead<T, R>(
  items: AsyncIterable<T>,
  count: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<Awaited<R>> {
  const underWay: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      // Looked at when its turn has come.
      result.catch(() => {});
      underWay.push(result);
      if (underWay.length === count) yield await (underWay.shift() as Promise<R>);
    }
    for (const result of underWay) yield await result;
  } finally {
    await Promise.allSettled(underWay);
  }
}
