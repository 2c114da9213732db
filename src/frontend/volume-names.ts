/** Which names are volumes from the start: globs with `*` and `?`, in any case of letters. */
export function volumeNameMatcher(globs: readonly string[]): (name: string) => boolean {
  const patterns = globs.map((glob) => {
    const source = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
    return new RegExp(`^${source.replaceAll('?', '.')}$`, 'is');
  });
  return (name) => patterns.some((pattern) => pattern.test(name));
}
