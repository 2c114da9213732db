/**
 * Programmer errors. A broken invariant ends the process: what was acknowledged is in the journal,
 * and carrying on with a state nobody understands is the only way to lose it. Bad input (peer,
 * backend, disk bytes) is never an invariant, it is a `StorageError`.
 */

export class InvariantError extends Error {
  readonly detail: Readonly<Record<string, unknown>> | undefined;

  constructor(message: string, detail?: Readonly<Record<string, unknown>>) {
    super(message);
    this.name = 'InvariantError';
    this.detail = detail;
  }
}

/** The exit status of a process that ended on a broken invariant (EX_SOFTWARE of sysexits.h). */
export const invariantExitStatus = 70;

/** `detail` is a thunk because an eager message costs more than the check itself. */
export function invariant(
  condition: boolean,
  message: string,
  detail?: () => Readonly<Record<string, unknown>>,
): asserts condition {
  if (!condition) throw new InvariantError(message, detail?.());
}
