/**
 * `wharf up`: a playground. Starts the daemon of one host with embedded defaults, says what is
 * mounted where, and stops it again, drained. The daemon is a process of its own, in a session of
 * its own, so that Ctrl-C reaches it only through here.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { SettingsInput } from '../daemon/settings.ts';
import { parseSettings } from '../daemon/settings.ts';
import { formatSize } from '../daemon/units.ts';
import { describeError } from '../core/errors.ts';
import { call, runtimeFolder } from './client.ts';
import { daemonEnvironment, daemonFile, daemonFlags } from './daemon-process.ts';
import { CliError, exitCode } from './exit-code.ts';

export interface UpOptions {
  readonly dir: string;
  readonly hosts: string;
  readonly backend: string;
  readonly s3Endpoint?: string;
  readonly s3Region: string;
  readonly registry: string;
  readonly etcdEndpoints?: string;
  readonly json?: boolean;
}

interface Ready {
  readonly id: string;
  readonly mount: string;
  readonly admin: string;
  readonly pid: number;
}

const vpool = 'demo';
const host = 'a';
const statusPauseMs = 1000;

/** One line for the user: key, what was found, what is allowed. */
function refuse(flag: string, found: string, allowed: string): never {
  throw new CliError(`${flag}: found ${found}; allowed is ${allowed}`, exitCode.usage);
}

function toSettings(options: UpOptions): SettingsInput {
  const dir = resolve(options.dir);
  if (options.hosts !== '1') refuse('--hosts', options.hosts, '1 in this version');
  if (options.registry !== 'sqlite')
    refuse('--registry', options.registry, 'sqlite in this version');
  if (options.backend !== 'dir' && options.backend !== 's3')
    refuse('--backend', options.backend, 'dir or s3');
  const { s3Endpoint } = options;
  if (options.backend === 's3' && s3Endpoint === undefined)
    refuse('--s3-endpoint', 'nothing', 'the URL of an S3 server');
  return {
    host,
    vpool,
    mount: join(dir, host, vpool),
    data: join(dir, host, 'data'),
    registry: { sqlite: join(dir, 'registry.sqlite') },
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

export async function up(options: UpOptions): Promise<number> {
  const settings = toSettings(options);
  parseOrRefuse(settings);
  mkdirSync(settings.mount, { recursive: true });
  const child = startDaemon(settings);
  const end = endOf(child);
  const isStopping = stopOnSignals(child);
  const ready = await waitUntilReady(child, end);
  const forget = remember(ready);
  try {
    announce(options, ready, settings);
    const line = showStatusLine(options, ready.admin);
    const { code, signal } = await end;
    line.stop();
    if (isStopping()) return code ?? exitCode.failed;
    if (code === 0) return exitCode.ok;
    const how = signal === null ? `with status ${code}` : `by ${signal}`;
    process.stderr.write(
      `wharf: the daemon of host ${host} ended ${how}; its mount is taken away\n`,
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

/** The first signal asks the daemon to drain; more of them don't hurry it. */
function stopOnSignals(child: ChildProcess): () => boolean {
  let isStopping = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (isStopping) return;
      isStopping = true;
      process.stderr.write('wharf: stopping: syncing journals and unmounting\n');
      if (child.connected) child.send('stop');
    });
  return () => isStopping;
}

/** Writes the daemon down for the other commands to find. */
function remember({ admin, mount, pid }: Ready): () => void {
  const folder = runtimeFolder();
  const file = join(folder, `${pid}.json`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(file, JSON.stringify({ admin, mount, pid, vpool }));
  return () => rmSync(file, { force: true });
}

function announce(options: UpOptions, ready: Ready, settings: SettingsInput): void {
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify({ ready: true, vpool, hosts: [ready] })}\n`);
    return;
  }
  const store = settings.backend.kind === 'dir' ? settings.backend.path : settings.backend.endpoint;
  process.stdout.write(`
vPool ${vpool} is mounted at ${ready.mount}
  object store   ${store}
  registry       ${settings.registry.sqlite}
  SSD data       ${settings.data} (journals and read cache)

Try next, in another terminal:
  mkdir ${ready.mount}/vm1
  qemu-img create -f raw ${ready.mount}/vm1/disk.raw 20G
  npx wharf vdisk list

Ctrl-C stops: journals are synced, the vPool is unmounted, the data stays.
`);
}

interface LiveStatus {
  readonly openVolumes: number;
  readonly notDestagedBytes: number;
  readonly cache: { hits: number; misses: number };
  readonly backend: { state: string; error?: string };
}

/** One line that is written over and over, on a terminal only. */
function showStatusLine(options: UpOptions, admin: string): { stop(): void } {
  if (options.json === true || !process.stdout.isTTY) return { stop() {} };
  const timer = setInterval(() => {
    call<LiveStatus>(admin, 'GET', '/v1/status').then(
      ({ openVolumes, notDestagedBytes, cache, backend }) => {
        const reads = cache.hits + cache.misses;
        const hits = reads === 0 ? '-' : `${((100 * cache.hits) / reads).toFixed(0)} %`;
        const text =
          `volumes open ${openVolumes} | not destaged ${formatSize(notDestagedBytes)} | ` +
          `cache hits ${hits} | backend ${backend.error ?? backend.state}`;
        process.stdout.write(`\r\u001b[K${text.slice(0, (process.stdout.columns || 80) - 1)}`);
      },
      () => {},
    );
  }, statusPauseMs);
  return {
    stop() {
      clearInterval(timer);
      process.stdout.write('\r\u001b[K');
    },
  };
}

/** Takes away what a dead daemon left mounted. */
async function detach(mount: string): Promise<void> {
  const { loadNative } = await import('../platform/native.ts');
  const detachFlag = 2;
  loadNative().native?.unmountNow(mount, detachFlag);
}
