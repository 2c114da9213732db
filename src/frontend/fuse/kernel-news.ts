/**
 * Tells this host's kernel what others have changed, so that it may believe names and attributes for
 * longer than anybody would wait. Nobody waits for the news: a notification may wait in the kernel
 * for requests that are under way. They are told one at a time; what waits is merged, and bounded.
 * What finds no room is not told: the kernel finds it out when it has believed long enough.
 */

import { describeError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Log } from '../../ports/log.ts';
import type { CachedRegistry } from '../../registry/cached-registry.ts';
import type { NamespaceChange } from '../../registry/namespace-changes.ts';
import { changesOf } from '../../registry/namespace-changes.ts';
import type { Belief } from './call.ts';
import type { Mount } from './mount.ts';

const waitingMax = 10_000;
/** How long the kernel may believe what nobody would correct. */
const uncorrectedMs = 1000;

export interface NewsDeps {
  readonly names: Pick<CachedRegistry, 'isLive' | 'onForeignChange'>;
  readonly log: Log;
  /** How long the kernel may believe what would be corrected. */
  readonly timeoutMs: number;
}

export class KernelNews implements Belief {
  readonly #deps: NewsDeps;
  readonly #waiting = new Map<string, NamespaceChange>();
  readonly #tasks: TaskGroup;
  #mount: Pick<Mount, 'invalidateInode' | 'invalidateEntry'> | undefined;
  #changes = 0;
  #isTelling = false;
  #isOverflowTold = false;

  constructor(deps: NewsDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'the kernel is not told of changes');
    });
    deps.names.onForeignChange((change) => {
      this.#changes += 1;
      for (const meaning of changesOf(change)) this.#add(meaning);
    });
  }

  timeoutMs(): number {
    const { names, timeoutMs } = this.#deps;
    return names.isLive() ? timeoutMs : Math.min(timeoutMs, uncorrectedMs);
  }

  changeCount(): number {
    return this.#changes;
  }

  /** From here on there is a kernel to tell. */
  serve(mount: Pick<Mount, 'invalidateInode' | 'invalidateEntry'>): void {
    this.#mount = mount;
  }

  /** This host has changed it past its mount. Resolves when the kernel knows. */
  async tellOwn(change: NamespaceChange): Promise<void> {
    this.#changes += 1;
    await this.#tell(change);
  }

  #add(change: NamespaceChange): void {
    if (!this.#mount) return;
    const key = change.kind === 'entry' ? `e${change.parent}/${change.name}` : `i${change.ino}`;
    const waits = this.#waiting.get(key);
    if (waits?.kind === 'inode' && waits.what === 'data') return;
    if (!waits && this.#waiting.size >= waitingMax) return this.#tellOverflow();
    this.#waiting.set(key, change);
    if (!this.#isTelling) this.#tasks.run(() => this.#tellAll());
  }

  async #tellAll(): Promise<void> {
    this.#isTelling = true;
    for (const [key, change] of this.#waiting) {
      this.#waiting.delete(key);
      await this.#tell(change);
    }
    this.#isTelling = false;
    this.#isOverflowTold = false;
  }

  async #tell(change: NamespaceChange): Promise<void> {
    if (change.kind === 'entry') await this.#mount?.invalidateEntry(change.parent, change.name);
    else {
      const what = change.what === 'data' ? 'all' : 'attributes';
      await this.#mount?.invalidateInode(change.ino, what);
    }
  }

  #tellOverflow(): void {
    if (this.#isOverflowTold) return;
    this.#isOverflowTold = true;
    const { log, timeoutMs } = this.#deps;
    log.warn({ waiting: waitingMax, timeoutMs }, 'changes of others are seen late on this mount');
  }
}
