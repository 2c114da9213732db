/** OpenStack Swift with its S3 front, from Debian's packages: four servers and memcached. */

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts, run, type S3Server, Servers } from './servers.ts';

export const swiftMissing: string | false = [
  'swift-proxy-server',
  'swift-object-server',
  'memcached',
].every((name) => existsSync(`/usr/bin/${name}`))
  ? false
  : 'no swift-proxy, swift-account, swift-container, swift-object, memcached';

const kinds = ['account', 'container', 'object'] as const;

function serverConfiguration(folder: string, kind: string, port: number): string {
  return [
    '[DEFAULT]',
    ...['bind_ip = 127.0.0.1', `bind_port = ${port}`, 'workers = 0', 'user = root'],
    ...[`swift_dir = ${folder}`, `devices = ${folder}/devices`, 'mount_check = false'],
    ...['[pipeline:main]', `pipeline = ${kind}-server`],
    ...[`[app:${kind}-server]`, `use = egg:swift#${kind}`],
    '',
  ].join('\n');
}

function proxyConfiguration(folder: string, port: number, memcached: number): string {
  const filters = [
    ...['catch_errors', 'gatekeeper', 'healthcheck', 'listing_formats', 's3api', 'tempauth'],
    ...['copy', 'slo', 'dlo', 'symlink', 'versioned_writes'],
  ];
  const pipeline = [
    ...['catch_errors', 'gatekeeper', 'healthcheck', 'cache', 'listing_formats', 's3api'],
    ...['tempauth', 'copy', 'slo', 'dlo', 'symlink', 'versioned_writes', 'proxy-server'],
  ];
  return [
    '[DEFAULT]',
    ...['bind_ip = 127.0.0.1', `bind_port = ${port}`, 'workers = 0', 'user = root'],
    `swift_dir = ${folder}`,
    ...['[pipeline:main]', `pipeline = ${pipeline.join(' ')}`],
    ...['[app:proxy-server]', 'use = egg:swift#proxy'],
    ...['allow_account_management = true', 'account_autocreate = true'],
    ...filters.flatMap((name) => [
      `[filter:${name}]`,
      `use = egg:swift#${name}`,
      ...(name === 'tempauth' ? ['user_test_tester = testing .admin'] : []),
    ]),
    ...['[filter:cache]', 'use = egg:swift#memcache', `memcache_servers = 127.0.0.1:${memcached}`],
    '',
  ].join('\n');
}

export async function startSwift(): Promise<S3Server> {
  const folder = mkdtempSync(join(tmpdir(), 'wharf-swift-'));
  const servers = new Servers();
  const dispose = async () => {
    await servers[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const ports = await freePorts(5);
    const [proxy = 0, memcached = 0] = ports.slice(3);
    mkdirSync(join(folder, 'devices/d1'), { recursive: true });
    writeFileSync(
      join(folder, 'swift.conf'),
      '[swift-hash]\nswift_hash_path_suffix = wharf\nswift_hash_path_prefix = wharf\n' +
        '[storage-policy:0]\nname = Policy-0\ndefault = yes\n',
    );
    process.env['SWIFT_DIR'] = folder;
    for (const [index, kind] of kinds.entries()) {
      const port = ports[index] ?? 0;
      const builder = join(folder, `${kind}.builder`);
      await run('swift-ring-builder', [builder, 'create', '4', '1', '1']);
      await run('swift-ring-builder', [builder, 'add', `r1z1-127.0.0.1:${port}/d1`, '1']);
      await run('swift-ring-builder', [builder, 'rebalance']);
      const conf = join(folder, `${kind}-server.conf`);
      writeFileSync(conf, serverConfiguration(folder, kind, port));
      servers.start(`swift-${kind}-server`, conf);
    }
    servers.start('memcached', '-u', 'root', '-l', '127.0.0.1', '-p', String(memcached));
    const conf = join(folder, 'proxy-server.conf');
    writeFileSync(conf, proxyConfiguration(folder, proxy, memcached));
    servers.start('swift-proxy-server', conf);
    const endpoint = `http://127.0.0.1:${proxy}`;
    await servers.until('Swift', async () => {
      const { ok, status } = await fetch(`${endpoint}/healthcheck`);
      if (!ok) throw new Error(`status ${status}`);
    });
    return {
      endpoint,
      accessKey: 'test:tester',
      secretKey: 'testing',
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}
