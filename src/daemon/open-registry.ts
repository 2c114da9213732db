/** The registry that settings name. */

import { readPem } from './pem-file.ts';
import type { Settings } from './settings.ts';
import { readBootId } from '../platform/boot-id.ts';
import type { Clock } from '../ports/clock.ts';
import type { Registry } from '../ports/registry.ts';
import { EtcdRegistry } from '../registry/etcd-registry.ts';
import { SqliteRegistry } from '../registry/sqlite-registry.ts';

/** etcd for many machines, SQLite for one; settings have exactly one of them. */
export async function openRegistry(
  { registry }: Pick<Settings, 'registry'>,
  clock: Clock,
): Promise<Registry> {
  const { sqlite, etcd } = registry;
  if (etcd) return EtcdRegistry.open(etcdSettings(etcd), clock);
  return SqliteRegistry.open({ path: sqlite as string, bootId: readBootId() }, clock);
}

function etcdSettings(etcd: NonNullable<Settings['registry']['etcd']>) {
  const { endpoints, user, password, tls } = etcd;
  const group = 'registry.etcd.tls';
  return {
    endpoints,
    ...(user !== undefined && { login: { user, password: password ?? '' } }),
    ...(tls && {
      tls: {
        ca: readPem(`${group}.ca`, tls.ca),
        ...(tls.cert !== undefined && { cert: readPem(`${group}.cert`, tls.cert) }),
        ...(tls.key !== undefined && { key: readPem(`${group}.key`, tls.key) }),
      },
    }),
  };
}
