/**
 * What the owner's path is compared with on one machine: the bare file, and a file behind FUSE as
 * others serve it. libfuse's example is the C limit of that path.
 */

import { existsSync, mkdirSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { run } from '../../support/servers.ts';
import type { Contender, Place } from './contender.ts';
import { makeFile, missingOf, Mounted } from './contender.ts';

const examples = '/usr/share/doc/libfuse3-dev/examples';
const qemuProgram = '/usr/bin/qemu-storage-daemon';
const diskName = 'disk';

export async function startBareFile({ folder, diskBytes }: Place): Promise<Contender> {
  const file = await makeFile(join(folder, diskName), diskBytes);
  return {
    disk: { file },
    settle: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

export const passthroughMissing = (): string | false =>
  missingOf('/usr/include/fuse3/fuse_lowlevel.h', '/usr/bin/gcc') ||
  (!['', '.gz'].some((end) => existsSync(join(examples, `passthrough_ll.c${end}`))) &&
    `no passthrough_ll.c in ${examples}`);

/** Every request goes through to it: nothing is cached by the kernel above. */
export async function startPassthrough({ folder, diskBytes }: Place): Promise<Contender> {
  const [source, mount] = [join(folder, 'source'), join(folder, 'mnt')];
  for (const made of [source, mount]) mkdirSync(made);
  await makeFile(join(source, diskName), diskBytes);
  for (const name of ['passthrough_ll.c', 'passthrough_helpers.h'])
    await fs.writeFile(join(folder, name), await exampleText(name));
  const program = join(folder, 'passthrough_ll');
  const flags = ['-O2', '-w', '-I/usr/include/fuse3', '-D_FILE_OFFSET_BITS=64'];
  await run('gcc', [...flags, '-o', program, `${program}.c`, '-lfuse3', '-lpthread']);
  const command = [program, '-f', '-o', `source=${source},cache=never`, mount];
  return Mounted.start(command, { mount, file: join(mount, diskName) });
}

async function exampleText(name: string): Promise<Uint8Array> {
  const path = join(examples, name);
  return existsSync(path) ? fs.readFile(path) : gunzipSync(await fs.readFile(`${path}.gz`));
}

export const qemuMissing = (): string | false => missingOf(qemuProgram);

/** QEMU mounts upon a file, and its disk has the file's name. */
export async function startQemuExport({ folder, diskBytes }: Place): Promise<Contender> {
  const image = await makeFile(join(folder, diskName), diskBytes);
  const mount = await makeFile(join(folder, 'export'), 0);
  const command = [
    qemuProgram,
    ...['--blockdev', `driver=file,node-name=file,filename=${image},cache.direct=on`],
    ...['--blockdev', 'driver=raw,node-name=disk,file=file'],
    ...['--export', `type=fuse,id=export,node-name=disk,mountpoint=${mount},writable=on`],
  ];
  return Mounted.start(command, { mount, file: mount });
}

export const fuseNativeMissing = (): string | false =>
  missingOf(join(import.meta.dirname, '../../../node_modules/fuse-native'));

export async function startFuseNative({ folder, diskBytes }: Place): Promise<Contender> {
  const image = await makeFile(join(folder, diskName), diskBytes);
  const mount = join(folder, 'mnt');
  mkdirSync(mount);
  const script = join(import.meta.dirname, 'fuse-native-process.ts');
  const command = [process.execPath, script, image, mount];
  return Mounted.start(command, { mount, file: join(mount, diskName) });
}
