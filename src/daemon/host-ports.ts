/**
 * All that a daemon has of the world outside: of the machine that it runs on, or simulated. What
 * stands above is the same code with either.
 */

import { openRegistry } from './open-registry.ts';
import { readPem } from './pem-file.ts';
import type { Settings } from './settings.ts';
import type { OpenedBackend } from '../backend/open-backend.ts';
import { openBackend } from '../backend/open-backend.ts';
import { readBootId } from '../platform/boot-id.ts';
import { nativeChecksum, tableChecksum } from '../platform/checksum.ts';
import type { Native } from '../platform/native.ts';
import type { PeerIdentity } from '../platform/peers/handshake.ts';
import { TcpPeers } from '../platform/peers/tcp-peers.ts';
import type { PeerTls } from '../platform/peers/tls.ts';
import { systemRandom } from '../platform/random.ts';
import { systemClock } from '../platform/system-clock.ts';
import { systemDisk } from '../platform/system-disk.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Disk } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';
import type { PeerHandler, Peers } from '../ports/peers.ts';
import type { Random } from '../ports/random.ts';
import type { Registry } from '../ports/registry.ts';

export interface ListeningPeers extends Peers {
  /** Where others reach it. */
  readonly address: string;
}

export interface HostPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly checksum: Checksum;
  readonly log: Log;
  readonly process: ProcessFacts;
  /** Errors are the registry's own: nothing is tried again. */
  readonly openRegistry: () => Promise<Registry>;
  /** Waits for a store that is away. */
  readonly openBackend: (bucketPrefix: string, options: CallOptions) => Promise<OpenedBackend>;
  readonly listen: (identity: PeerIdentity, handler: PeerHandler) => Promise<ListeningPeers>;
}

export interface ProcessFacts {
  readonly pid: number;
  /** Another one each time that the machine is started. */
  readonly bootId: string;
  /** Whom the root folder of a new vPool belongs to. */
  readonly uid: number;
  readonly gid: number;
  readonly since: string;
}

export interface SystemDeps {
  readonly native: Native | undefined;
  readonly log: Log;
  /** Milliseconds of the wall clock. */
  readonly startedMs: number;
}

export function systemPorts({ native, log, startedMs }: SystemDeps, settings: Settings): HostPorts {
  const clock = systemClock(native);
  const random = systemRandom();
  const checksum = native ? nativeChecksum(native) : tableChecksum();
  const { pid } = process;
  const since = new Date(startedMs).toISOString();
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  return {
    ...{ clock, random, checksum, log, disk: systemDisk(native) },
    process: { pid, uid, gid, since, bootId: readBootId() },
    openRegistry: () => openRegistry(settings, clock),
    openBackend: (bucketPrefix, options) =>
      openBackend({ ...settings.backend, bucketPrefix }, { clock, random, log }, options),
    listen: (identity, handler) => {
      const tls = settings.peers.tls && readTls(settings.peers.tls);
      const deps = { identity, checksum, clock, random, log, native, ...(tls && { tls }) };
      return TcpPeers.listen(deps, settings.peers.listen, handler);
    },
  };
}

function readTls({ cert, key, ca }: NonNullable<Settings['peers']['tls']>): PeerTls {
  return {
    cert: readPem('peers.tls.cert', cert),
    key: readPem('peers.tls.key', key),
    ca: readPem('peers.tls.ca', ca),
  };
}
