/**
 * The daemon of one host: settings, stack, mount, admin API; then it runs until it is told to
 * stop, and drains: requests answered, journals synced, unmounted.
 *
 *   node src/main.ts --config FILE     settings from a YAML file
 *   node src/main.ts --ipc             settings as the first message of the parent
 */

import { aborted } from './core/aborted.ts';
import { makeLog } from './daemon/log.ts';
import type { Settings } from './daemon/settings.ts';
import { parseSettings } from './daemon/settings.ts';
import { systemPorts } from './daemon/host-ports.ts';
import { readSettingsFile } from './daemon/settings-file.ts';
import { describeError, isStorageError, StorageError } from './core/errors.ts';
import { invariantExitStatus } from './core/invariant.ts';
import { openAdminServer } from './frontend/admin/server.ts';
import { daemonEndpoints } from './daemon/endpoints.ts';
import type { Belief } from './frontend/fuse/call.ts';
import { KernelNews } from './frontend/fuse/kernel-news.ts';
import type { Mount } from './frontend/fuse/mount.ts';
import { mountFuse } from './frontend/fuse/mount.ts';
import { mountFuseNative } from './frontend/fuse/fuse-native-mount.ts';
import type { LoopDelay } from './platform/loop-delay.ts';
import { measureLoopDelay } from './platform/loop-delay.ts';
import type { Clock } from './ports/clock.ts';
import type { NativeResult } from './platform/native.ts';
import { loadNative } from './platform/native.ts';
import type { Log } from './ports/log.ts';
import type { NamespaceChange } from './registry/namespace-changes.ts';
import type { Stack } from './daemon/stack.ts';
import { openStack } from './daemon/stack.ts';

const lateLoopPauseMs = 5000;
const lateLoopMs = 500;
const exitStatus = { failed: 1, usage: 2, software: invariantExitStatus } as const;

async function readSettings(argv: readonly string[]): Promise<Settings> {
  if (argv[0] === '--ipc')
    return parseSettings(await new Promise((resolve) => process.once('message', resolve)));
  return readSettingsFile(argv[1] ?? '/etc/wharf/wharf.yaml');
}

class Stopped extends Error {}

/** Aborted when the daemon is told to stop; the reason says by whom. */
function toldToStop(): AbortSignal {
  const stop = new AbortController();
  const by = (whom: string) => () => stop.abort(new Stopped(whom));
  process.on('SIGTERM', by('SIGTERM'));
  process.on('SIGINT', by('SIGINT'));
  process.on('disconnect', by('its parent is gone'));
  process.on('message', (message) => {
    if (message === 'stop') by('its parent')();
  });
  return stop.signal;
}

/** A bug or a broken promise: what is acknowledged is in the journals, so the end is near and safe. */
function onFatal(log: Log, mount: () => Mount | undefined): void {
  const die = (error: unknown) => {
    log.error({ error: describeError(error), stack: (error as Error).stack }, 'daemon has to end');
    mount()?.detachNow();
    process.exit(exitStatus.software);
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
}

async function run(settings: Settings, log: Log): Promise<void> {
  const signal = toldToStop();
  const startedMs = Date.now();
  const loaded = loadNative();
  let mount: Mount | undefined;
  onFatal(log, () => mount);
  const { native } = loaded;
  const loopDelay = measureLoopDelay();
  const ports = systemPorts({ native, log, startedMs }, settings);
  const stack = await openStack(ports, settings, signal);
  const ending = new AbortController();
  void tellOfLateLoop(loopDelay, stack.clock, log, ending.signal);
  try {
    const news = new KernelNews({ names: stack.names, log, timeoutMs: settings.fuse.timeout });
    const mounted = await mountWith(loaded, settings, stack, { belief: news, log });
    mount = mounted;
    news.serve(mounted);
    const transport = mounted.transport + (native ? '' : ` (no addon: ${loaded.reason})`);
    const requestCounts = () => mounted.requestCounts();
    const tellKernel = (change: NamespaceChange) => news.tellOwn(change);
    const facts = { startedMs, transport, loopDelay, requestCounts, tellKernel };
    const endpoints = daemonEndpoints(settings, stack, facts);
    const admin = await openAdminServer(settings.admin.port, endpoints);
    const ready = { id: settings.host, mount: settings.mount, admin: admin.url, pid: process.pid };
    log.info(ready, 'ready');
    process.send?.({ ready });
    const stopped = aborted(signal).catch((error: unknown) => describeError(error));
    const reason = await Promise.race([stopped, mounted.ended.then(() => 'somebody unmounted it')]);
    log.info({ reason }, 'stopping');
    await admin.close();
    await mounted.unmount();
    mount = undefined;
  } finally {
    ending.abort();
    loopDelay.close();
    await drain(stack, log);
    mount?.detachNow();
  }
}

/** By the addon where it is there, by fuse-native otherwise, which is logged with the reason. */
function mountWith(
  loaded: NativeResult,
  settings: Settings,
  { fileSystem, locks, clock, isReadOnly }: Stack,
  { belief, log }: { readonly belief: Belief; readonly log: Log },
): Promise<Mount> {
  if (!loaded.native) {
    if (isReadOnly)
      throw new StorageError('read_only', 'object store is read-only; fuse-native needs to write');
    log.warn({ reason: loaded.reason }, 'no addon: mounting with fuse-native, which is slower');
    return mountFuseNative({ fileSystem, clock, log }, settings.mount, `wharf:${settings.vpool}`);
  }
  const deps = { native: loaded.native, fileSystem, locks, belief, clock, log };
  return mountFuse(deps, {
    mountPoint: settings.mount,
    source: `wharf:${settings.vpool}`,
    transport: settings.fuse.transport,
    requestsMax: settings.fuse.requestsMax,
    pollMicroseconds: Math.round(settings.fuse.poll * 1000),
    isReadOnly,
  });
}

/** A loop that is late makes every VM of this host wait: that is worth a line. */
async function tellOfLateLoop(
  loopDelay: LoopDelay,
  clock: Clock,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(lateLoopPauseMs, { signal }).catch(() => {});
    const delayMs = Math.round(loopDelay.takeMaxMs());
    if (delayMs > lateLoopMs) log.warn({ delayMs }, 'event loop was late: all I/O waited for it');
  }
}

async function drain(stack: Stack, log: Log): Promise<void> {
  log.info({}, 'syncing journals');
  await stack[Symbol.asyncDispose]();
  log.info({}, 'stopped');
}

async function main(): Promise<void> {
  let settings: Settings;
  try {
    settings = await readSettings(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`wharf: settings: ${describeError(error)}\n`);
    process.exit(exitStatus.usage);
  }
  const log = makeLog(process.stderr.isTTY ? 'text' : 'json', { host: settings.host });
  try {
    await run(settings, log);
    process.exit(0);
  } catch (error) {
    if (error instanceof Stopped) {
      log.info({ reason: error.message }, 'stopped before it was ready');
      process.exit(0);
    }
    const text =
      isStorageError(error) || !process.env['WHARF_DEBUG'] ? describeError(error) : error;
    process.send?.({ failed: describeError(error) });
    process.stderr.write(`wharf: ${String(text)}\n`);
    process.exit(exitStatus.failed);
  }
}

await main();
