/** What tests have left behind in the temporary folder of their run, or because of it. */

import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

const namespaces = '/run/netns';

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Processes are known by their arguments and their working folder. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
      const isOurs = command.includes(folder) || linkOf(`/proc/${pid}/cwd`).startsWith(folder);
      return isOurs ? [`process ${pid}: ${command.slice(0, 200)}`] : [];
    });
}

/** Network namespaces are named by the folder. */
function namespacesOf(folder: string): string[] {
  const names = existsSync(namespaces) ? readdirSync(namespaces) : [];
  return names
    .filter((name) => name.startsWith(`${basename(folder)}-`))
    .map((name) => `network namespace ${name}`);
}

export function leaksIn(folder: string): string[] {
  const mounts = read('/proc/self/mounts')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(folder));
  const loops = readdirSync('/sys/block').flatMap((device) => {
    const file = read(`/sys/block/${device}/loop/backing_file`).trim();
    return file.startsWith(folder) ? [`loop device ${device} on ${file}`] : [];
  });
  return [
    ...mounts.map((path) => `mount ${path}`),
    ...loops,
    ...namespacesOf(folder),
    ...processesOf(folder),
    ...readdirSync(folder).map((name) => `folder ${join(folder, name)}`),
  ];
}
