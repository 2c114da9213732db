/**
 * The settings of a daemon: YAML, checked once, here. A mistake is told in one line that names the
 * key, what was found and what is allowed.
 */

import { z } from 'zod';
import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { KiB, MiB } from '../core/units.ts';
import { parseSize, parseTime } from './units.ts';

function size(fallback: string, { min = 0, max = Number.MAX_SAFE_INTEGER, multiple = 1 } = {}) {
  return z
    .union([z.string(), z.number()])
    .default(fallback)
    .transform((value, context) => {
      const bytes = parseSize(String(value));
      if (bytes !== undefined && bytes >= min && bytes <= max && bytes % multiple === 0)
        return bytes;
      const unit = multiple > 1 ? `, a multiple of ${multiple}` : '';
      context.addIssue({
        code: 'custom',
        message: `a size from ${min} to ${max} bytes${unit}, as 4MiB`,
        input: value,
      });
      return z.NEVER;
    });
}

function time(fallback: string) {
  return z
    .union([z.string(), z.number()])
    .default(fallback)
    .transform((value, context) => {
      const ms = parseTime(String(value));
      if (ms !== undefined) return ms;
      context.addIssue({ code: 'custom', message: 'a time as 250ms or 5s', input: value });
      return z.NEVER;
    });
}

const count = (fallback: number, min: number, max: number) =>
  z.number().int().min(min).max(max).default(fallback);

const name = z.string().regex(/^[a-z][a-z0-9-]{0,19}$/, 'letters, digits and dashes, at most 20');
const absolutePath = z.string().startsWith('/', 'an absolute path');

const schema = z.strictObject({
  host: name,
  vpool: name,
  mount: absolutePath,
  data: absolutePath,
  registry: z.strictObject({ sqlite: absolutePath }),
  backend: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('dir'),
      path: absolutePath,
      layout: z.enum(['buckets', 'prefix']).default('buckets'),
      requestsMax: count(64, 1, 4096),
    }),
    z.strictObject({
      kind: z.literal('s3'),
      endpoint: z.url(),
      region: z.string().default('us-east-1'),
      layout: z.enum(['buckets', 'prefix']).default('buckets'),
      requestsMax: count(64, 1, 4096),
    }),
  ]),
  admin: z.strictObject({ port: count(0, 0, 65_535) }).prefault({}),
  files: z
    .strictObject({
      volumeNames: z.array(z.string()).default(['*.raw', '*.img', '*-flat.vmdk', '*.qcow2']),
      writeBackDelay: time('1s'),
      dirtyMax: size('64MiB', { min: 4 * MiB }),
      cacheMax: size('64MiB', { min: 1 * MiB }),
    })
    .prefault({}),
  volumes: z
    .strictObject({
      journalFile: size('64MiB', { min: 4 * MiB, max: 1024 * MiB, multiple: 4 * KiB }),
      journalMax: size('1GiB', { min: 16 * MiB }),
      segment: size('4MiB', {
        min: limits.segmentBytesMin,
        max: limits.segmentBytesMax,
        multiple: limits.blockBytes,
      }),
      cut: size('32MiB', { min: 64 * KiB }),
      destageDelay: time('5s'),
      uploadMax: size('64MiB', { min: 8 * MiB }),
      deltaBlocks: count(262_144, 256, 16_777_216),
      tailSegments: count(256, 1, 4096),
      checkpointDelay: time('30s'),
      mapMemory: size('128MiB', { min: 1 * MiB }),
      readAhead: size('4MiB', { max: 64 * MiB }),
    })
    .prefault({}),
  cache: z
    .strictObject({
      size: size('10GiB', { min: 1 * MiB }),
      fetchMax: size('64MiB', { min: 1 * MiB }),
    })
    .prefault({}),
  fuse: z
    .strictObject({
      requestsMax: count(128, 8, 1024),
      poll: time('50us'),
      timeout: time('1s'),
    })
    .prefault({}),
});

export type Settings = z.output<typeof schema>;
/** Settings as they are written, before defaults. */
export type SettingsInput = z.input<typeof schema>;

/** Throws `invalid` with one line for people. */
export function parseSettings(input: unknown): Settings {
  const result = schema.safeParse(input, { reportInput: true });
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new StorageError('invalid', issue ? describeIssue(issue) : 'not valid');
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const key = issue.path.join('.');
  if (issue.code === 'unrecognized_keys')
    return `${[...issue.path, issue.keys[0]].join('.')}: no such setting`;
  const found = issue.input === undefined ? 'nothing' : JSON.stringify(issue.input);
  return `${key || 'settings'}: found ${found}; allowed is ${allowed(issue)}`;
}

function allowed(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_value') return issue.values.map(String).join(' or ');
  if (issue.code === 'too_small') return `${issue.minimum} or more`;
  if (issue.code === 'too_big') return `${issue.maximum} or less`;
  if (issue.code === 'invalid_type') return `a ${issue.expected}`;
  if (issue.code === 'invalid_union') return 'kind dir or s3';
  return issue.message;
}
