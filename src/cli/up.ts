/**
 * `wharf up`: a playground. Starts the daemons of one or more hosts with embedded defaults, says
 * what is mounted where, and stops them again, drained. Each daemon is a process of its own, in a
 * session of its own, so that Ctrl-C reaches it only through here.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { SettingsInput } from '../daemon/settings.ts';
import { parseSettings } from '../daemon/settings.ts';
import { formatSize } from '../daemon/units.ts';
import { describeError } from '../core/errors.ts';
import { call, runtimeFolder } from './client.ts';
import { daemonEnvironment, daemonFile, daemonFlags } from './daemon-process.ts';
import { CliError, exitCode } from './exit-code.ts';

/** Where a playground keeps what its hosts share. */
export interface PlaceOptions {
  readonly dir: string;
  readonly backend: string;
  readonly s3Endpoint?: string;
  readonly s3Region: string;
  readonly registry: string;
  readonly etcdEndpoints?: string;
}

export interface UpOptions extends PlaceOptions {
  readonly hosts: string;
  readonly json?: boolean;
}

interface Ready {
  readonly id: string;
  readonly mount: string;
  readonly admin: string;
  readonly pid: number;
}

const vpool = 'demo';
const hostIds = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
const statusPauseMs = 1000;

/** One line for the user: key, what was found, what is allowed. */
function refuse(flag: string, found: string, allowed: string): never {
  throw new CliError(`${flag}: found ${found}; allowed is ${allowed}`, exitCode.usage);
}

function checkOptions(options: UpOptions): void {
  const { hosts } = options;
  const allowed = `a whole number from 1 to ${hostIds.length}`;
  if (!/^[1-9]\d*$/.test(hosts) || Number(hosts) > hostIds.length)
    refuse('--hosts', hosts, allowed);
}

function checkPlaces(options: PlaceOptions): void {
  const { registry, backend } = options;
  if (registry !== 'sqlite' && registry !== 'etcd')
    refuse('--registry', registry, 'sqlite or etcd');
  if (registry === 'etcd' && options.etcdEndpoints === undefined)
    refuse('--etcd-endpoints', 'nothing', 'the URLs of etcd, separated by commas');
  if (backend !== 'dir' && backend !== 's3') refuse('--backend', backend, 'dir or s3');
  if (backend === 's3' && options.s3Endpoint === undefined)
    refuse('--s3-endpoint', 'nothing', 'the URL of an S3 server');
}

/** Of one host of a playground. */
export function playgroundSettings(
  options: PlaceOptions,
  { host, vpool, key }: { readonly host: string; readonly vpool: string; readonly key: string },
): SettingsInput {
  checkPlaces(options);
  const dir = resolve(options.dir);
  const { s3Endpoint } = options;
  return {
    host,
    vpool,
    mount: join(dir, host, vpool),
    data: join(dir, host, 'data'),
    registry:
      options.registry === 'etcd'
        ? { etcd: { endpoints: (options.etcdEndpoints ?? '').split(',') } }
        : { sqlite: join(dir, 'registry.sqlite') },
    peers: { key },
    backend:
      options.backend === 's3'
        ? { kind: 's3', endpoint: s3Endpoint ?? '', region: options.s3Region }
        : { kind: 'dir', path: join(dir, 'store') },
  };
}

function startDaemon(settings: SettingsInput): ChildProcess {
  const child = fork(daemonFile, ['--ipc'], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: daemonEnvironment(),
    execArgv: [...daemonFlags],
  });
  child.send(settings);
  return child;
}

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

function endOf(child: ChildProcess): Promise<End> {
  return new Promise((done) => child.once('exit', (code, signal) => done({ code, signal })));
}

async function waitUntilReady(child: ChildProcess, end: Promise<End>): Promise<Ready> {
  const ready = new Promise<Ready>((done) =>
    child.on('message', (message: { ready?: Ready }) => {
      if (message.ready) done(message.ready);
    }),
  );
  const first = await Promise.race([ready, end]);
  if ('mount' in first) return first;
  // The daemon has said why, in one line of its own.
  throw new CliError('', first.code ?? exitCode.failed);
}

/** A daemon that serves. */
interface Running {
  readonly child: ChildProcess;
  readonly ready: Ready;
  readonly end: Promise<End>;
}

export async function up(options: UpOptions): Promise<number> {
  checkOptions(options);
  const key = randomBytes(32).toString('hex');
  const chosen = hostIds.slice(0, Number(options.hosts));
  const all = chosen.map((host) => playgroundSettings(options, { host, vpool, key }));
  for (const settings of all) {
    parseOrRefuse(settings);
    mkdirSync(settings.mount, { recursive: true });
  }
  const children: ChildProcess[] = [];
  const isStopping = stopOnSignals(children);
  const starting = all.map((settings) => start(settings, children));
  const started = await Promise.allSettled(starting);
  const running = started.flatMap((result) =>
    result.status === 'fulfilled' ? [result.value] : [],
  );
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) {
    for (const { child } of running) stop(child);
    await Promise.all(running.map(({ end }) => end));
    throw failed.reason;
  }
  announce(
    options,
    running.map(({ ready }) => ready),
    all[0] as SettingsInput,
  );
  const line = showStatusLine(
    options,
    running.map(({ ready }) => ready),
  );
  const codes = await Promise.all(running.map((one) => watch(options, one, isStopping)));
  line.stop();
  return Math.max(...codes);
}

async function start(settings: SettingsInput, children: ChildProcess[]): Promise<Running> {
  const child = startDaemon(settings);
  children.push(child);
  const end = endOf(child);
  const ready = await waitUntilReady(child, end);
  return { child, ready, end };
}

/** Until the daemon ends; gives the exit code that its end is worth. */
async function watch(
  options: UpOptions,
  { ready, end }: Running,
  isStopping: () => boolean,
): Promise<number> {
  const forget = remember(options, ready);
  try {
    const { code, signal } = await end;
    if (isStopping()) return code ?? exitCode.failed;
    if (code === 0) return exitCode.ok;
    const how = signal === null ? `with status ${code}` : `by ${signal}`;
    process.stderr.write(
      `wharf: the daemon of host ${ready.id} ended ${how}; its mount is taken away\n`,
    );
    await detach(ready.mount);
    return exitCode.software;
  } finally {
    forget();
  }
}

function parseOrRefuse(settings: SettingsInput): void {
  try {
    parseSettings(settings);
  } catch (error) {
    throw new CliError(describeError(error), exitCode.usage);
  }
}

/** The first signal asks the daemons to drain; more of them don't hurry it. */
function stopOnSignals(children: readonly ChildProcess[]): () => boolean {
  let isStopping = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (isStopping) return;
      isStopping = true;
      process.stderr.write('wharf: stopping: syncing journals and unmounting\n');
      for (const child of children) stop(child);
    });
  return () => isStopping;
}

function stop(child: ChildProcess): void {
  if (child.connected) child.send('stop');
}

/** Writes the daemon down for the other commands to find. */
function remember(options: UpOptions, { admin, mount, pid }: Ready): () => void {
  const folder = runtimeFolder();
  const file = join(folder, `${pid}.json`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(file, JSON.stringify({ admin, mount, pid, playground: resolve(options.dir) }));
  return () => rmSync(file, { force: true });
}

function announce(options: UpOptions, hosts: readonly Ready[], settings: SettingsInput): void {
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify({ ready: true, vpool, hosts })}\n`);
    return;
  }
  const store = settings.backend.kind === 'dir' ? settings.backend.path : settings.backend.endpoint;
  const mounts = hosts.map(({ id, mount }) => `  host ${id}         ${mount}\n`).join('');
  const [{ mount }] = hosts as [Ready];
  process.stdout.write(`
vPool ${vpool} is mounted at
${mounts}  object store   ${store}
  registry       ${settings.registry.sqlite ?? settings.registry.etcd?.endpoints.join(', ')}
  SSD data       ${resolve(options.dir, '*', 'data')} (journals and read cache)

Try next, in another terminal:
  mkdir ${mount}/vm1
  qemu-img create -f raw ${mount}/vm1/disk.raw 20G
  npx wharf vdisk list

Ctrl-C stops: journals are synced, the vPool is unmounted, the data stays.
`);
}

interface LiveStatus {
  readonly host: string;
  readonly objects: { driven: number; forwarded: number; moving: number };
  readonly volumesWithoutReplica: number;
  readonly openVolumes: number;
  readonly notDestagedBytes: number;
  readonly cache: { hits: number; misses: number };
  readonly backend: { state: string; error?: string };
}

/** One line that is written over and over, on a terminal only. */
function showStatusLine(options: UpOptions, hosts: readonly Ready[]): { stop(): void } {
  if (options.json === true || !process.stdout.isTTY) return { stop() {} };
  const show = async () => {
    const asked = hosts.map(({ admin }) => call<LiveStatus>(admin, 'GET', '/v1/status'));
    const answers = (await Promise.allSettled(asked)).flatMap((answer) =>
      answer.status === 'fulfilled' ? [answer.value] : [],
    );
    const sum = (what: (status: LiveStatus) => number) =>
      answers.reduce((total, status) => total + what(status), 0);
    const hits = sum(({ cache }) => cache.hits);
    const reads = hits + sum(({ cache }) => cache.misses);
    const trouble = answers.find(({ backend }) => backend.error !== undefined);
    const text =
      `${answers.map(describeHost).join(' | ')} | ` +
      `not destaged ${formatSize(sum(({ notDestagedBytes }) => notDestagedBytes))} | ` +
      `cache hits ${reads === 0 ? '-' : `${((100 * hits) / reads).toFixed(0)} %`} | ` +
      `backend ${trouble?.backend.error ?? 'ok'}`;
    process.stdout.write(`\r\u001b[K${text.slice(0, (process.stdout.columns || 80) - 1)}`);
  };
  const timer = setInterval(() => void show(), statusPauseMs);
  return {
    stop() {
      clearInterval(timer);
      process.stdout.write('\r\u001b[K');
    },
  };
}

/** What it serves: `a drives 3, forwards 1, moves 1`. */
function describeHost({ host, objects, volumesWithoutReplica }: LiveStatus): string {
  const { driven, forwarded, moving } = objects;
  const rest = [
    ...(forwarded > 0 ? [`forwards ${forwarded}`] : []),
    ...(moving > 0 ? [`moves ${moving}`] : []),
    ...(volumesWithoutReplica > 0 ? [`without replica ${volumesWithoutReplica}`] : []),
  ];
  return [`${host} drives ${driven}`, ...rest].join(', ');
}

/** Takes away what a dead daemon left mounted. */
async function detach(mount: string): Promise<void> {
  const { loadNative } = await import('../platform/native.ts');
  const detachFlag = 2;
  loadNative().native?.unmountNow(mount, detachFlag);
}
