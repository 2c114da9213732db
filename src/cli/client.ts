/** Talks to a daemon's admin API, and finds the daemon. */

import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CliError, exitCode } from './exit-code.ts';

/** Where running daemons of this user are written down. */
export function runtimeFolder(): string {
  const base = process.env['XDG_RUNTIME_DIR'] ?? join(tmpdir(), `wharf-${process.getuid?.() ?? 0}`);
  return join(base, 'wharf-daemons');
}

export interface RunningDaemon {
  readonly admin: string;
  readonly mount: string;
  readonly pid: number;
  /** Its folder: daemons of one share a vPool. */
  readonly playground: string;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export function runningDaemons(): RunningDaemon[] {
  let names: string[];
  try {
    names = readdirSync(runtimeFolder()).filter((name) => name.endsWith('.json'));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    try {
      const text = readFileSync(join(runtimeFolder(), name), 'utf8');
      const daemon = JSON.parse(text) as RunningDaemon;
      return isAlive(daemon.pid) ? [daemon] : [];
    } catch {
      return [];
    }
  });
}

/** By --admin, WHARF_ADMIN, the mount that a path lies on, the current folder, or any of one vPool. */
export function findAdmin(given: string | undefined, path?: string): string {
  const named = given ?? process.env['WHARF_ADMIN'];
  if (named !== undefined) return named;
  const daemons = runningDaemons();
  const near = [path, process.cwd()].flatMap((place) =>
    place === undefined ? [] : [resolve(place)],
  );
  for (const place of near) {
    const holding = daemons.find(({ mount }) => place === mount || place.startsWith(`${mount}/`));
    if (holding) return holding.admin;
  }
  const here = daemons.filter(({ mount }) => mount.startsWith(`${process.cwd()}/`));
  const candidates = here.length > 0 ? here : daemons;
  const [only] = candidates;
  if (only === undefined)
    throw new CliError(
      'no running daemon was found; start one with `wharf up`',
      exitCode.unreachable,
    );
  if (candidates.some(({ playground }) => playground !== only.playground))
    throw new CliError(
      `several daemons run; choose one with --admin: ${candidates.map(({ admin }) => admin).join(' ')}`,
      exitCode.usage,
    );
  return only.admin;
}

/** The daemon of a host: by --admin or WHARF_ADMIN, else the one on this machine that is it. */
export async function findAdminOfHost(given: string | undefined, host: string): Promise<string> {
  const named = given ?? process.env['WHARF_ADMIN'];
  if (named !== undefined) return named;
  for (const { admin } of runningDaemons()) {
    const status = await call<{ host: string }>(admin, 'GET', '/v1/status').catch(() => undefined);
    if (status?.host === host) return admin;
  }
  throw new CliError(`no daemon of host ${host} runs on this machine`, exitCode.notFound);
}

/** A path inside the vPool: as it is given there, or as a file on the mount. */
export function insideVpool(path: string): string {
  if (/^[a-z][a-z0-9-]*:\//.test(path)) return path;
  const full = resolve(path);
  const daemon = runningDaemons().find(({ mount }) => full.startsWith(`${mount}/`));
  return daemon ? full.slice(daemon.mount.length) : path;
}

/** The same for a name that may not be there yet: a file beside the vPool is not meant. */
export function nameInVpool(path: string): string {
  const inside = insideVpool(path);
  if (/^([a-z][a-z0-9-]*:)?\//.test(inside)) return inside;
  throw new CliError(
    `${path} lies in no vPool: give it as /vm1/disk.raw, as demo:/vm1/disk.raw, or on a mount`,
    exitCode.usage,
  );
}

/** `PATH@SNAPSHOT`, or a path alone. */
export function splitSnapshot(text: string): { readonly path: string; readonly name?: string } {
  const [, path, name] = /^(.+)@([^/@]+)$/.exec(text) ?? [];
  return path === undefined || name === undefined ? { path: text } : { path, name };
}

interface Refusal {
  readonly error?: string;
  readonly code?: string;
}

export async function call<T>(
  admin: string,
  method: 'GET' | 'POST',
  path: string,
  query: Readonly<Record<string, string>> = {},
): Promise<T> {
  const response = await send(admin, method, path, query);
  const body = (await response.json()) as T & Refusal;
  if (response.ok) return body;
  throw refused(body, response);
}

/** An answer that comes as it is made, line by line. Rejects where it ends in the middle. */
export async function* callForLines(
  admin: string,
  path: string,
  query: Readonly<Record<string, string>>,
): AsyncGenerator<object> {
  const response = await send(admin, 'GET', path, query);
  if (!response.ok || !response.body) throw refused((await response.json()) as Refusal, response);
  let rest = '';
  try {
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const parsed = JSON.parse(line) as Refusal;
        if (parsed.error !== undefined) throw refused(parsed, response);
        yield parsed;
      }
    }
  } catch (error) {
    if (error instanceof TypeError) throw gone(admin);
    throw error;
  }
}

async function send(
  admin: string,
  method: 'GET' | 'POST',
  path: string,
  query: Readonly<Record<string, string>>,
): Promise<Response> {
  const url = new URL(path, admin);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  try {
    return await fetch(url, { method });
  } catch {
    throw gone(admin);
  }
}

function gone(admin: string): CliError {
  return new CliError(`the daemon at ${admin} does not answer`, exitCode.unreachable);
}

function refused({ error, code }: Refusal, { status }: Response): CliError {
  const exit = code === 'not_found' ? exitCode.notFound : exitCode.failed;
  return new CliError(error ?? `the daemon answered ${status}`, exit);
}
