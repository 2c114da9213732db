/** Ceph's radosgw on one monitor and one OSD in memory, from Debian's packages. */

import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GiB } from '../../src/core/units.ts';
import { freePorts, run, type S3Server, Servers } from './servers.ts';

export const cephMissing: string | false = ['ceph-mon', 'ceph-osd', 'radosgw', 'ceph'].every(
  (name) => existsSync(`/usr/bin/${name}`),
)
  ? false
  : 'no ceph-mon, ceph-osd, radosgw, ceph-common';

const accessKey = 'wharf';
const secretKey = 'wharfwharf';

/** An object store, and the cluster that it stands on. */
export interface Ceph extends S3Server {
  /** Path of its settings, for Ceph's own programs. */
  readonly configuration: string;
}

function configuration(
  folder: string,
  fsid: string,
  { mon, rgw, bytes }: { readonly mon: number; readonly rgw: number; readonly bytes: number },
): string {
  const none = ['cluster', 'service', 'client'].map((who) => `auth_${who}_required = none`);
  return [
    '[global]',
    `fsid = ${fsid}`,
    `mon_host = [v1:127.0.0.1:${mon}]`,
    ...none,
    'osd_pool_default_size = 1',
    'osd_pool_default_min_size = 1',
    'osd_pool_default_pg_num = 4',
    'osd_crush_chooseleaf_type = 0',
    'mon_allow_pool_size_one = true',
    'mon_max_pg_per_osd = 1000',
    'osd_objectstore = memstore',
    `memstore_device_bytes = ${bytes}`,
    'ms_bind_msgr2 = false',
    'public_addr = 127.0.0.1',
    'cluster_addr = 127.0.0.1',
    `run_dir = ${folder}`,
    `admin_socket = ${folder}/$name.asok`,
    `log_file = ${folder}/$name.log`,
    `mon_data = ${folder}/mon`,
    `osd_data = ${folder}/osd`,
    `crash_dir = ${folder}`,
    '[client.rgw]',
    `rgw_frontends = beast endpoint=127.0.0.1:${rgw} tcp_nodelay=1`,
    `rgw_data = ${folder}/rgw`,
    'rgw_dns_name = 127.0.0.1',
    '',
  ].join('\n');
}

const startsMax = 3;
const usualBytes = 2 * GiB;

/** A cluster that does not come up is set up anew: an OSD now and then does not find its monitor. */
export async function startCeph(bytes = usualBytes): Promise<Ceph> {
  for (let starts = 1; ; starts += 1) {
    try {
      return await startCluster(bytes);
    } catch (error) {
      if (starts === startsMax) throw error;
    }
  }
}

async function startCluster(bytes: number): Promise<Ceph> {
  const folder = mkdtempSync(join(tmpdir(), 'wharf-ceph-'));
  const servers = new Servers();
  const dispose = async () => {
    await servers[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const [mon = 0, rgw = 0] = await freePorts(2);
    const conf = join(folder, 'ceph.conf');
    const fsid = randomUUID();
    for (const name of ['osd', 'rgw']) mkdirSync(join(folder, name));
    writeFileSync(conf, configuration(folder, fsid, { mon, rgw, bytes }));
    const map = join(folder, 'monmap');
    const address = `[v1:127.0.0.1:${mon}]`;
    await run('monmaptool', ['--create', '--fsid', fsid, '--addv', 'a', address, map]);
    const root = ['--setuser', 'root', '--setgroup', 'root', '-c', conf];
    await run('ceph-mon', ['--mkfs', '-i', 'a', '--monmap', map, ...root]);
    servers.start('ceph-mon', '-f', '-i', 'a', ...root);
    const ceph = (...argv: string[]) =>
      run('ceph', ['-c', conf, '--connect-timeout', '5', ...argv]);
    await servers.until('the monitor', () => ceph('mon', 'stat'));
    const uuid = randomUUID();
    await ceph('osd', 'new', uuid);
    await run('ceph-osd', ['-i', '0', '--mkfs', '--osd-uuid', uuid, ...root]);
    servers.start('ceph-osd', '-f', '-i', '0', ...root);
    await servers.until('the OSD', async () => {
      const { stdout } = await ceph('osd', 'stat');
      if (!stdout.includes('1 up')) throw new Error(stdout);
    });
    const user = ['--uid=wharf', '--display-name=wharf', '--max-buckets=0'];
    const keys = [`--access-key=${accessKey}`, `--secret-key=${secretKey}`];
    await run('radosgw-admin', [
      '-c',
      conf,
      '-n',
      'client.rgw',
      'user',
      'create',
      ...user,
      ...keys,
    ]);
    servers.start('radosgw', '-f', '-n', 'client.rgw', ...root);
    const endpoint = `http://127.0.0.1:${rgw}`;
    await servers.until('radosgw', () => fetch(endpoint));
    return {
      ...{ endpoint, accessKey, secretKey, configuration: conf },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}
