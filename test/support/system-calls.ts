/**
 * System calls that neither node:fs nor a tool of Debian 12 makes, by Perl, which every Debian has
 * (perl-base is essential there). Each runs in a process of its own, and rejects with the `code`
 * that node:fs would give.
 */

import { execFile } from 'node:child_process';
import { getSystemErrorName } from 'node:util';

const numbersOf: Readonly<Record<string, Record<string, number>>> = {
  x64: { setxattr: 188, getxattr: 191, renameat2: 316 },
  arm64: { setxattr: 5, getxattr: 8, renameat2: 276 },
};
const numbers = numbersOf[process.arch];

/** Why they can't be made here, or false: for the `skip` of a test. */
export const noSystemCalls: string | false = numbers ? false : `no numbers for ${process.arch}`;

const failing = `
sub done { return $_[0] if $_[0] != -1;
  print STDERR "errno ", $! + 0; exit 1 }`;

interface Input {
  readonly argv: readonly string[];
  readonly stdin?: Uint8Array;
}

/** Runs Perl with the numbers of system calls in `%nr`; gives what it printed. */
function perl(script: string, { argv, stdin }: Input): Promise<Buffer> {
  const table = Object.entries(numbers ?? {}).map(([name, number]) => `${name} => ${number}`);
  const whole = `use strict; our %nr = (${table.join(', ')});\n${failing}\n${script}`;
  return new Promise((resolve, reject) => {
    const options = { encoding: 'buffer' } as const;
    const child = execFile('perl', ['-e', whole, ...argv], options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const errno = /^errno (\d+)/.exec(stderr.toString())?.[1];
      if (errno === undefined) return reject(error);
      const code = getSystemErrorName(-Number(errno));
      reject(Object.assign(new Error(code), { code }));
    });
    child.stdin?.end(stdin);
  });
}

export async function setAttribute(
  path: string,
  name: string,
  value: Uint8Array,
  how: 'set' | 'create' | 'replace' = 'set',
): Promise<void> {
  const flags = { set: 0, create: 1, replace: 2 }[how];
  await perl(
    'my ($p, $n, $f) = @ARGV; local $/; my $v = <STDIN> // "";' +
      'done(syscall($nr{setxattr}, $p, $n, $v, length $v, int $f));',
    { argv: [path, name, String(flags)], stdin: value },
  );
}

/** `bytesMax`: the room that the caller has; 0 asks for the length alone. */
export function getAttribute(path: string, name: string, bytesMax = 65_536): Promise<Buffer> {
  return perl(
    'my ($p, $n, $m) = @ARGV; my $b = "\\0" x $m;' +
      'my $l = done(syscall($nr{getxattr}, $p, $n, $b, int $m));' +
      'print $m ? substr($b, 0, $l) : $l;',
    { argv: [path, name, String(bytesMax)] },
  );
}

export async function renameWith(
  from: string,
  to: string,
  how: 'no-replace' | 'exchange',
): Promise<void> {
  const flags = { 'no-replace': 1, exchange: 2 }[how];
  await perl(
    'my ($f, $t, $how) = @ARGV; my $cwd = -100;' +
      'done(syscall($nr{renameat2}, $cwd, $f, $cwd, $t, int $how));',
    { argv: [from, to, String(flags)] },
  );
}
