/**
 * What an administrator does to a volume in use, where it is served. Requests travel between hosts
 * as JSON, and a lost answer has them made again: making one again is as good as making it once.
 * Long ones are done in slices: the answer says where the next one goes on.
 */

export type VolumeRequest =
  /** Keeps the volume as it is at a moment; resolves when that is on the backend. `exists`. */
  | { readonly do: 'snapshot'; readonly name: string; readonly createdNs: string }
  /** Whether that snapshot is there, once no making of it is under way any more. */
  | { readonly do: 'settle'; readonly name: string; readonly createdNs: string }
  /** A checkpoint, after which is deleted what nobody reaches any more. */
  | { readonly do: 'collect' }
  /** What compaction would win, or wins. */
  | { readonly do: 'compact'; readonly how: 'plan' | 'run' }
  /** Copies a part of what the volume reads from its ancestors. */
  | { readonly do: 'flatten' }
  | { readonly do: 'space' }
  /** The table of live bytes is wrong: they are counted anew. */
  | { readonly do: 'recount' }
  /** From now on it is not written any more, and has a snapshot for its clones. */
  | { readonly do: 'freeze'; readonly createdNs: string };

export type CareRequest =
  | VolumeRequest
  /** Makes it what snapshot `name` is; what it was until then is snapshot `before`, if that is given. */
  | {
      readonly do: 'rollBack';
      readonly name: string;
      readonly before?: string;
      readonly createdNs: string;
    }
  /** The volume has no name any more: it holds nothing from now on, but for what its snapshots keep. */
  | { readonly do: 'empty' };

/**
 * Of a snapshot of several objects at one moment, to the owner of each (router/moments/). Not made
 * again when an answer is lost: the snapshot comes to nothing then.
 */
export type HoldRequest =
  /** From the answer on no request passes. `not_owner`, `busy`, `failed`, `exists` (a snapshot). */
  | { readonly do: 'hold'; readonly token: string; readonly name: string }
  /** Its state is kept: by a volume as snapshot `name`, of a file as the new file `as`. `failed`. */
  | {
      readonly do: 'mark';
      readonly token: string;
      readonly name: string;
      readonly createdNs: string;
      readonly as?: string;
    }
  | { readonly do: 'letGo'; readonly token: string }
  /** Whether the new file is there, once no making of it is under way any more. */
  | { readonly do: 'copied'; readonly as: string };

export interface CareAnswer {
  /** Of `flatten`; once it is done, the volume needs no ancestor any more. */
  readonly flattened?: {
    readonly isDone: boolean;
    /** How far the volume has been looked through. */
    readonly doneBytes: number;
    readonly copiedBytes: number;
  };
  /** Of `settle` and `copied`. */
  readonly isKept?: boolean;
  /** Of `hold`. */
  readonly held?: 'volume' | 'file';
  /** Of `mark`: what is kept. */
  readonly content?: { readonly sizeBytes: number; readonly allocatedBytes: number };
  readonly space?: SpaceUse;
  readonly compaction?: CompactionReport;
}

export interface SpaceUse {
  /** Bytes on the backend that the volume as it is now reaches and no other volume does. */
  readonly uniqueBytes: number;
  /** Bytes of data that it reads from what it is a clone of. */
  readonly sharedBytes: number;
}

export interface CompactionReport {
  readonly segments: number;
  /** Bytes of all segments, as if each were full, and of what lives in them. */
  readonly storedBytes: number;
  readonly liveBytes: number;
  /** What the next round would rewrite. */
  readonly victims: number;
  readonly victimBytes: number;
  /** Live bytes that were copied to win space back since the volume was opened, and the dead ones. */
  readonly rewrittenBytes: number;
  readonly reclaimedBytes: number;
}
