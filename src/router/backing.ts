/** Who serves an object: this host, which drives it, or another one, to which its requests go. */

import type { ErrorCode } from '../core/errors.ts';
import { isStorageError, StorageError } from '../core/errors.ts';
import type { HostId } from '../core/units.ts';
import type { Log } from '../ports/log.ts';
import type { DrivenObject } from '../ports/object-driver.ts';
import type { ObjectKind } from '../ports/objects.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Threshold } from '../registry/object-records.ts';
import type { HostLease } from './members/host-lease.ts';
import type { RemoteObject } from './peers/remote-object.ts';

export interface Here {
  readonly where: 'here';
  readonly object: DrivenObject;
  readonly kind: ObjectKind;
  readonly tenure: Tenure & { end(reason: StorageError): void };
  /** The lease that the tenure was claimed under. */
  readonly lease: Pick<HostLease, 'isFresh' | 'fresh' | 'assertFresh' | 'guard'>;
}

export interface There {
  readonly where: 'there';
  readonly object: RemoteObject;
  readonly owner: HostId;
  /** When this host asks for it; undefined: as for all objects. */
  readonly threshold: Threshold | undefined;
}

export type Backing = Here | There;

/** What an object needs of the router when somebody else has to serve it. */
export interface RoutedDeps {
  /** Whoever serves the object after `stale`, waited for. */
  readonly resolve: (stale: Backing) => Promise<Backing>;
  readonly promote: (file: Here) => Promise<Here>;
  /** A request was served by the object's owner. */
  readonly noteForwarded: (what: 'read' | 'write', by: There) => void;
  readonly host: HostId;
  readonly log: Log;
}

/** Gives what serves the object from then on; `resolve`: whoever does after `stale`, waited for. */
export type Change = (backing: Backing, resolve: RoutedDeps['resolve']) => Promise<Backing>;

/** The tenure that served a request is over. */
const moved: ReadonlySet<ErrorCode> = new Set(['fenced', 'not_owner', 'closed']);
/** The owner did not answer. */
const lost: ReadonlySet<ErrorCode> = new Set(['unavailable', 'unknown_outcome']);

/** Whether a request that met `error` may be made again with whoever serves the object by now. */
export function isReroutable({ where }: Backing, error: unknown): boolean {
  if (!isStorageError(error)) return false;
  return moved.has(error.code) || (where === 'there' && lost.has(error.code));
}

/** Its tenure is over, however that came: what it had in memory is nobody's any more. */
export async function letGo(stale: Backing): Promise<void> {
  if (stale.where === 'there') return;
  await stale.object.handOff?.();
  stale.tenure.end(new StorageError('fenced', 'the tenure has ended'));
  await stale.object.abandon();
}
