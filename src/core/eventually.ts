/**
 * A result that is there at once where nothing has to be waited for, and a promise where something
 * has. The data path uses it so that an I/O served from memory or the page cache costs no promise.
 */
export type Eventually<T> = T | Promise<T>;

export function isPending<T>(value: Eventually<T>): value is Promise<T> {
  return value instanceof Promise;
}

/** Goes on with `next` at once when the value is there, after it otherwise. */
export function chain<T, U>(
  value: Eventually<T>,
  next: (value: T) => Eventually<U>,
): Eventually<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
