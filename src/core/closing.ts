/** For `await using`: what is closed when it is not needed any more, whatever happens. */
export function closing<T extends { close(): Promise<void> }>(
  value: T,
): AsyncDisposable & { readonly value: T } {
  return { value, [Symbol.asyncDispose]: () => value.close() };
}
