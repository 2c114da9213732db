/**
 * The settings of a daemon, checked once, here, and plain data from here on. A mistake is told in
 * one line that names the key, what was found and what is allowed.
 */

import { resolve, sep } from 'node:path';
import { z } from 'zod';
import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { GiB, KiB, MiB } from '../core/units.ts';
import { nearest } from './nearest.ts';
import { parseSize, parseTime, writeSize, writeTime } from './units.ts';

const dayMs = 24 * 3_600_000;

/** A quantity with a unit, as `parse` reads it, for which `isAllowed` holds. */
function quantity(
  fallback: string,
  allowed: string,
  parse: (text: string) => number | undefined,
  isAllowed: (value: number) => boolean,
) {
  return z
    .union([z.string(), z.number()], allowed)
    .default(fallback)
    .transform((given, context) => {
      const value = parse(String(given));
      if (value !== undefined && isAllowed(value)) return value;
      context.addIssue({ code: 'custom', message: allowed, input: given });
      return z.NEVER;
    });
}

function size(fallback: string, { min = 0, max = Number.MAX_SAFE_INTEGER, multiple = 1 } = {}) {
  const bounds =
    max === Number.MAX_SAFE_INTEGER
      ? `of ${writeSize(min)} or more`
      : `from ${writeSize(min)} to ${writeSize(max)}`;
  const unit = multiple > 1 ? `, a multiple of ${writeSize(multiple)}` : '';
  return quantity(
    fallback,
    `a size ${bounds}${unit}, as 4096, 64KiB or 4MiB`,
    parseSize,
    (bytes) => bytes >= min && bytes <= max && bytes % multiple === 0,
  );
}

function time(fallback: string, { minMs = 0, maxMs = dayMs } = {}) {
  const allowed = `a time from ${writeTime(minMs)} to ${writeTime(maxMs)}, as 250ms or 5s`;
  return quantity(fallback, allowed, parseTime, (ms) => ms >= minMs && ms <= maxMs);
}

function count(fallback: number, min: number, max: number) {
  const allowed = `a whole number from ${min} to ${max}`;
  return z.number(allowed).int(allowed).min(min, allowed).max(max, allowed).default(fallback);
}

function text(pattern: RegExp, allowed: string) {
  return z.string(allowed).regex(pattern, allowed);
}

const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, values.join(' or '));

const name = text(
  /^[a-z][a-z0-9-]{0,19}$/,
  'a name of lower-case letters, digits and dashes, at most 20, the first one a letter',
);
const path = text(/^\/[^\0]*$/, 'an absolute path').transform((given) => resolve(given));
const url = text(/^https?:\/\/[^/\s]+(\/\S*)?$/, 'a URL that starts with http:// or https://');
const group = <T extends z.core.$ZodLooseShape>(shape: T) =>
  z.strictObject(shape, 'a group of settings');

const ofEveryBackend = {
  layout: oneOf(['buckets', 'prefix']).default('buckets'),
  requestsMax: count(64, 1, 4096),
};
const region = text(/^[a-z0-9-]{1,64}$/, 'the name of a region, as us-east-1').default('us-east-1');
const glob = text(/^[^/\0]{1,255}$/, 'a pattern of file names, as *.raw');

const schema = group({
  host: name,
  domain: name.optional(),
  vpool: name,
  mount: path,
  data: path,
  registry: group({
    sqlite: path.optional(),
    etcd: group({
      endpoints: z.array(url, 'a list of URLs, as http://10.0.0.1:2379').min(1, 'one URL or more'),
      user: z.string('a name').optional(),
      password: z.string('a password').optional(),
      tls: group({ ca: path, cert: path.optional(), key: path.optional() }).optional(),
    }).optional(),
  }),
  backend: z.discriminatedUnion(
    'kind',
    [
      group({ kind: z.literal('dir'), path, ...ofEveryBackend }),
      group({ kind: z.literal('s3'), endpoint: url, region, ...ofEveryBackend }),
    ],
    'a group of settings with kind dir or s3',
  ),
  admin: group({ port: count(0, 0, 65_535) }).prefault({}),
  peers: group({
    listen: text(
      /^(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$/,
      'an address and a port, as 10.0.0.1:7000',
    ).default('127.0.0.1:0'),
    key: text(/^[0-9a-f]{64}$/, '64 hex digits, the same on all hosts').optional(),
    tls: group({ cert: path, key: path, ca: path }).optional(),
  }).prefault({}),
  lease: group({
    time: time('6s', { minMs: 1000, maxMs: 60_000 }),
    margin: time('1500ms', { minMs: 100, maxMs: 30_000 }),
  }).prefault({}),
  registryCopy: group({ delay: time('30s', { minMs: 100, maxMs: 60_000 }) }).prefault({}),
  replica: group({
    mode: oneOf(['none', 'async', 'sync']).default('sync'),
    timeout: time('2s', { minMs: 100, maxMs: 60_000 }),
  }).prefault({}),
  handover: group({
    reads: count(200, 0, 1_000_000),
    writes: count(200, 0, 1_000_000),
    window: time('1s', { minMs: 10, maxMs: 60_000 }),
    coolDown: time('2s', { maxMs: 3_600_000 }),
  }).prefault({}),
  files: group({
    volumeNames: z
      .array(glob, 'a list of patterns of file names')
      .max(100, 'at most 100 patterns of file names')
      .default(['*.raw', '*.img', '*-flat.vmdk', '*.qcow2']),
    writeBackDelay: time('1s'),
    dirtyMax: size('64MiB', { min: 4 * MiB }),
    cacheMax: size('64MiB', { min: 1 * MiB }),
  }).prefault({}),
  volumes: group({
    journalFile: size('64MiB', { min: 4 * MiB, max: 1 * GiB, multiple: 4 * KiB }),
    journalMax: size('1GiB', { min: 16 * MiB }),
    segment: size('4MiB', {
      min: limits.segmentBytesMin,
      max: limits.segmentBytesMax,
      multiple: limits.blockBytes,
    }),
    cut: size('32MiB', { min: 64 * KiB }),
    destageDelay: time('5s'),
    uploadMax: size('32MiB', { min: 8 * MiB }),
    deltaBlocks: count(131_072, 256, 16_777_216),
    tailSegments: count(256, 1, 4096),
    checkpointDelay: time('30s'),
    mapMemory: size('64MiB', { min: 1 * MiB }),
    readAhead: size('4MiB', { max: 64 * MiB }),
  }).prefault({}),
  cache: group({
    size: size('10GiB', { min: 1 * MiB }),
    fetchMax: size('64MiB', { min: 1 * MiB }),
  }).prefault({}),
  fuse: group({
    requestsMax: count(128, 8, 1024),
    poll: time('50us', { maxMs: 10 }),
    timeout: time('10s', { maxMs: 3_600_000 }),
    transport: oneOf(['device', 'ring']).default('device'),
  }).prefault({}),
});

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

export type Settings = DeepReadonly<z.output<typeof schema>>;
/** Settings as they are written, before defaults. */
export type SettingsInput = DeepReadonly<z.input<typeof schema>>;

/** Throws `invalid` with one line for people. */
export function parseSettings(input: unknown): Settings {
  const result = schema.safeParse(input ?? {}, { reportInput: true });
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new StorageError('invalid', issue ? describeIssue(issue) : 'not valid');
  }
  checkTogether(result.data);
  return result.data;
}

/** What is right alone and wrong together. */
function checkTogether({ mount, data, registry, backend, lease, volumes }: Settings): void {
  if ((registry.sqlite === undefined) === (registry.etcd === undefined))
    throw wrong('registry', registry, 'either sqlite or etcd');
  const places = [
    ['data', data],
    ...(registry.sqlite === undefined ? [] : [['registry.sqlite', registry.sqlite] as const]),
    ...(backend.kind === 'dir' ? [['backend.path', backend.path] as const] : []),
  ] as const;
  // A daemon that kept its own data on its own mount would wait for itself.
  for (const [key, place] of places)
    if (`${place}${sep}`.startsWith(`${mount}${sep}`))
      throw wrong(key, place, `a place outside of mount, which is ${mount}`);
  if (lease.margin * 2 > lease.time)
    throw wrong('lease.margin', writeTime(lease.margin), 'half of lease.time at most');
  if (volumes.journalMax < 2 * volumes.journalFile)
    throw wrong(
      'volumes.journalMax',
      writeSize(volumes.journalMax),
      `twice volumes.journalFile or more, ${writeSize(2 * volumes.journalFile)}`,
    );
}

function wrong(key: string, found: unknown, allowed: string): StorageError {
  return new StorageError(
    'invalid',
    `${key}: found ${describeFound(found)}; allowed is ${allowed}`,
  );
}

const foundCharactersMax = 60;

function describeFound(found: unknown): string {
  if (found === undefined) return 'nothing';
  let written: string;
  try {
    written = JSON.stringify(found);
  } catch {
    return 'what contains itself';
  }
  return written.length > foundCharactersMax
    ? `${written.slice(0, foundCharactersMax)}...`
    : written;
}

function describeIssue(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys')
    return describeUnknown(issue.path.join('.'), issue.keys[0] ?? '');
  const key = issue.path.join('.') || 'settings';
  // Of a wrong kind the whole group is reported.
  const found =
    issue.code === 'invalid_union' && issue.path.at(-1) === 'kind'
      ? (issue.input as { kind?: unknown }).kind
      : issue.input;
  return wrong(key, found, issue.message).message;
}

function describeUnknown(group: string, key: string): string {
  const full = group === '' ? key : `${group}.${key}`;
  const known = knownKeys();
  if (known.includes(full)) return `${full}: no such setting with this backend.kind`;
  const shown = /^[\w.-]{1,100}$/.test(full) ? full : describeFound(full);
  const here = known.filter((other) => other.replace(/\.?[^.]*$/, '') === group);
  const meant =
    nearest(full, here) ?? known.find((other) => other.endsWith(`.${key}`)) ?? nearest(full, known);
  return meant === undefined
    ? `${shown}: no such setting; there are ${here.join(', ')}`
    : `${shown}: no such setting; the nearest is ${meant}`;
}

/** Every key that some settings have, groups among them. */
function knownKeys(): string[] {
  const places = {
    ...{ host: 'h', domain: 'd', vpool: 'v', mount: '/m', data: '/d' },
    registry: {
      sqlite: '/r',
      etcd: {
        ...{ endpoints: ['http://e'], user: 'u', password: 'p' },
        tls: { ca: '/c', cert: '/c', key: '/k' },
      },
    },
    peers: { key: '0'.repeat(64), tls: { cert: '/c', key: '/k', ca: '/c' } },
  };
  const backends = [
    { kind: 'dir', path: '/p' },
    { kind: 's3', endpoint: 'http://e' },
  ];
  return [...new Set(backends.flatMap((backend) => keysOf(schema.parse({ ...places, backend }))))];
}

function keysOf(value: object, before = ''): string[] {
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    const isGroup = typeof inner === 'object' && inner !== null && !Array.isArray(inner);
    return [`${before}${key}`, ...(isGroup ? keysOf(inner, `${before}${key}.`) : [])];
  });
}
