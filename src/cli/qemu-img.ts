/**
 * Images that are not raw, by `qemu-img`. What an image is, its content says, not its name. Paths are
 * given whole, so that none is taken for the name of a protocol.
 */

import { spawn } from 'node:child_process';
import { CliError, exitCode } from './exit-code.ts';

export const imageFormats: readonly string[] = ['raw', 'qcow2', 'vmdk', 'vhdx'];

const missing = 'which needs qemu-img, and that is not installed (Debian: qemu-utils)';

/** How images begin that are not raw; enough to refuse them where there is no qemu-img. */
const beginnings: readonly (readonly [string, string])[] = [
  ['QFI\u00fb', 'qcow2'],
  ['KDMV', 'vmdk'],
  ['# Disk DescriptorFile', 'vmdk'],
  ['vhdxfile', 'vhdx'],
];

/** The format that the first bytes of an image name. */
export function formatOfBeginning(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 32)).toString('latin1');
  return beginnings.find(([beginning]) => text.startsWith(beginning))?.[1] ?? 'raw';
}

export interface Image {
  readonly format: string;
  readonly sizeBytes: number;
}

/** Undefined where there is no qemu-img. `format`: what somebody has said that it is. */
export async function readImage(
  path: string,
  format: string | undefined,
): Promise<Image | undefined> {
  const named = format === undefined ? [] : ['-f', format];
  const output = await qemuImg(['info', '--output=json', '-U', ...named, path]);
  if (output === undefined) return undefined;
  const found = JSON.parse(output) as { format: string; 'virtual-size': number };
  return { format: found.format, sizeBytes: found['virtual-size'] };
}

export interface Conversion {
  readonly from: string;
  readonly fromFormat: string;
  readonly to: string;
  readonly toFormat: string;
  /** The target stands already, and reads as zeroes. */
  readonly isTargetZero: boolean;
  readonly signal: AbortSignal;
  /** From 0 to 1. */
  readonly onProgress: (share: number) => void;
}

export async function convert(conversion: Conversion): Promise<void> {
  const { from, fromFormat, to, toFormat, isTargetZero, signal, onProgress } = conversion;
  const zero = isTargetZero ? ['-n', '--target-is-zero', '-t', 'none'] : [];
  const formats = ['-f', fromFormat, '-O', toFormat];
  const onOutput = (text: string) => {
    const [, percent] = /\(([\d.]+)\/100%\)\s*$/.exec(text) ?? [];
    if (percent !== undefined) onProgress(Number(percent) / 100);
  };
  const argv = ['convert', '-p', ...zero, ...formats, from, to];
  const output = await qemuImg(argv, { signal, onOutput });
  if (output === undefined)
    throw needsQemuImg(
      fromFormat === 'raw' ? `${to} becomes ${toFormat}` : `${from} is ${fromFormat}`,
    );
}

export function needsQemuImg(what: string): CliError {
  return new CliError(`${what}, ${missing}`, exitCode.failed);
}

interface Watching {
  readonly signal?: AbortSignal;
  readonly onOutput?: (text: string) => void;
}

/** What it printed; undefined where it is not installed. Fails with its last line. */
function qemuImg(argv: readonly string[], watching: Watching = {}): Promise<string | undefined> {
  const { signal, onOutput } = watching;
  return new Promise((resolve, reject) => {
    const child = spawn('qemu-img', argv, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(signal && { signal }),
    });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => {
      if (onOutput) onOutput(chunk.toString());
      else output += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    });
    child.once('close', (code) => {
      const why = errors.trim().split('\n').at(-1) ?? '';
      if (code === 0) resolve(output);
      else reject(new CliError(why === '' ? `qemu-img ended with ${code}` : why, exitCode.failed));
    });
  });
}
