/** The house as a table, and what breaks it. */

import { globSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

/** Rooms of each floor, the lowest first. A room imports itself and the floors below. */
const floors: readonly (readonly string[])[] = [
  ['core'],
  ['ports', 'format'],
  ['backend', 'registry', 'platform'],
  ['log', 'cache'],
  ['volume', 'file'],
  ['router'],
  ['frontend'],
  ['daemon'],
  ['main.ts', 'cli'],
];
/** Pairs of one floor that may look at each other: formats are written in terms of ports. */
const neighbours = new Set(['format>ports']);

/** Who may import a package of the run time: one file each. */
const packageOwners: Readonly<Record<string, string>> = {
  '@aws-sdk/client-s3': 'backend/s3-backend.ts',
  cockatiel: 'registry/etcd-client.ts',
  commander: 'cli/main.ts',
  etcd3: 'registry/etcd-client.ts',
  'fuse-native': 'frontend/fuse/fuse-native-mount.ts',
  'lru-cache': 'core/lru-cache.ts',
  pino: 'daemon/log.ts',
  yaml: 'daemon/settings-file.ts',
  zod: 'daemon/settings.ts',
};

/** The outside world, and the rooms and files that may touch it. */
const outside: readonly { readonly what: RegExp; readonly allowed: readonly string[] }[] = [
  {
    what: /from 'node:(fs|fs\/promises|net|http|child_process|timers.*)'/,
    allowed: [
      'platform/',
      'daemon/',
      'cli/',
      'main.ts',
      'backend/directory-backend.ts',
      'registry/sqlite-file.ts',
      'frontend/fuse/mount.ts',
      'frontend/fuse/fuse-native-mount.ts',
      'frontend/admin/',
    ],
  },
  { what: /from 'node:tls'/, allowed: ['platform/peers/'] },
  {
    what: /\b(setTimeout|setInterval|Date\.now|new Date|Math\.random)\b/,
    // Its results are Dates made of times it is given.
    allowed: ['platform/', 'daemon/', 'cli/', 'main.ts', 'frontend/fuse/fuse-native-mount.ts'],
  },
  {
    what: /\bprocess\.env\b/,
    allowed: ['platform/', 'daemon/', 'cli/', 'main.ts', 'frontend/fuse/mount.ts'],
  },
  { what: /\bconsole\./, allowed: [] },
];

export interface SourceFile {
  /** From `src/` on. */
  readonly path: string;
  readonly text: string;
}

export function readSources(root: string): SourceFile[] {
  return globSync('**/*.ts', { cwd: join(root, 'src') }).map((path) => ({
    path,
    text: readFileSync(join(root, 'src', path), 'utf8'),
  }));
}

function floorOf(room: string): number {
  return floors.findIndex((rooms) => rooms.includes(room));
}

const roomOf = (path: string) => path.split('/')[0] ?? '';

export function findBreaches(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => [...importBreaches(file), ...outsideBreaches(file)]);
}

function importBreaches({ path, text }: SourceFile): string[] {
  const room = roomOf(path);
  const breaches: string[] = [];
  if (floorOf(room) === -1) breaches.push(`${path}: ${room} stands on no floor`);
  for (const [, target = ''] of text.matchAll(/(?:from|import\()\s*'([^']+)'/g)) {
    if (target.startsWith('node:')) continue;
    if (!target.startsWith('.')) {
      if (packageOwners[target] !== path)
        breaches.push(`${path}: may not import package ${target}`);
      continue;
    }
    const other = roomOf(posix.join(posix.dirname(path), target));
    if (other === room || neighbours.has(`${room}>${other}`)) continue;
    if (floorOf(other) >= floorOf(room)) breaches.push(`${path}: ${room} may not import ${other}`);
  }
  return breaches;
}

function outsideBreaches({ path, text }: SourceFile): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  return outside
    .filter(
      ({ what, allowed }) => what.test(code) && !allowed.some((start) => path.startsWith(start)),
    )
    .map(({ what }) => `${path}: may not touch ${what.source}`);
}
