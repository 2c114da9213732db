/**
 * GlusterFS with one brick: its daemons in a network namespace of their own, so that they neither
 * meet nor disturb others of this machine, and with their own working folder. It starts its brick by
 * itself, which is therefore ended by the id that it leaves in a file.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { run, Servers } from '../../support/servers.ts';
import type { Contender, Place } from './contender.ts';
import { makeFile, missingOf, Mounted } from './contender.ts';

const volume = 'bench';

export const glusterMissing = (): string | false =>
  missingOf('/usr/sbin/glusterd', '/usr/sbin/gluster', '/usr/sbin/glusterfs') ||
  (!['/sbin/ip', '/bin/ip'].some((path) => missingOf(path) === false) && 'no iproute2');

export async function startGluster(place: Place): Promise<Contender> {
  const closing = new AsyncDisposableStack();
  try {
    const namespace = await makeNamespace(closing);
    const enter = ['nsenter', `--net=/run/netns/${namespace}`];
    closing.defer(() => endBricks(place));
    await startVolume(place, enter, closing.use(new Servers()));
    const mount = join(place.folder, 'mnt');
    mkdirSync(mount);
    const client = ['glusterfs', '--no-daemon'];
    const log = ['--log-file', join(place.folder, 'client.log')];
    const from = [`--volfile-server=${hostname()}`, `--volfile-id=${volume}`];
    const command = [...enter, ...client, ...log, ...from, mount];
    const file = join(mount, 'disk');
    const mounted = closing.use(await Mounted.start(command, { mount, file }));
    await makeFile(file, place.diskBytes);
    return {
      disk: { file },
      settle: () => mounted.settle(),
      [Symbol.asyncDispose]: () => closing.disposeAsync(),
    };
  } catch (error) {
    await closing.disposeAsync();
    throw error;
  }
}

/** With loopback alone. */
async function makeNamespace(closing: AsyncDisposableStack): Promise<string> {
  const name = `${basename(tmpdir())}-${randomBytes(4).toString('hex')}-gluster`;
  await run('ip', ['netns', 'add', name]);
  closing.defer(async () => void (await run('ip', ['netns', 'delete', name])));
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  // It does not take 127.0.0.1 for a host's name; the host's own address is on loopback here.
  const { stdout } = await run('getent', ['ahostsv4', hostname()]);
  const address = stdout.split(/\s/)[0] ?? '';
  if (!address.startsWith('127.'))
    await run('ip', ['-n', name, 'address', 'add', `${address}/32`, 'dev', 'lo']);
  return name;
}

async function endBricks({ folder }: Place): Promise<void> {
  const files = await fs.readdir(join(folder, 'run'), { recursive: true }).catch(() => []);
  for (const file of files.filter((name) => name.endsWith('.pid'))) {
    const pid = Number(await fs.readFile(join(folder, 'run', file), 'utf8'));
    if (pid > 0 && existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
  }
}

async function startVolume(
  { folder }: Place,
  enter: readonly string[],
  servers: Servers,
): Promise<void> {
  const [brick, work, runtime] = ['brick', 'work', 'run'].map((name) => join(folder, name));
  for (const made of [brick, work, runtime]) mkdirSync(made as string);
  const settings = join(folder, 'glusterd.vol');
  const socket = join(folder, 'glusterd.socket');
  await fs.writeFile(
    settings,
    [
      'volume management',
      'type mgmt/glusterd',
      `option working-directory ${work}`,
      `option run-directory ${runtime}`,
      `option glusterd-sockfile ${socket}`,
      'option transport-type socket',
      'end-volume',
      '',
    ].join('\n'),
  );
  const log = (name: string) => join(folder, `${name}.log`);
  const [program, ...argv] = [...enter, 'glusterd', '--no-daemon'];
  const pid = ['-p', join(folder, 'glusterd.pid')];
  servers.start(program, ...argv, ...['-f', settings, '-l', log('glusterd')], ...pid);
  const gluster = (...words: readonly string[]) => {
    const client = ['gluster', `--glusterd-sock=${socket}`, '--mode=script', ...words];
    const [command = '', ...rest] = [...enter, ...client];
    return run(command, rest);
  };
  await servers.until('glusterd', () => gluster('volume', 'info'));
  await gluster('volume', 'create', volume, `${hostname()}:${brick}`, 'force');
  await gluster('volume', 'start', volume);
}
