/**
 * What the kernel was told of files, so that who opens one finds it as it is. (Which pages it may
 * keep is another question: see seen-versions.ts.)
 *
 * When the kernel is made to forget a file, it drops an answer that is on its way to it, and reads on
 * with the size that it had before. Who opened the file when it had changed must not be read to with
 * that size. So when the kernel was made to forget a file for an opening, it is not made to forget it
 * again before it has taken an answer, or those who opened it have closed it:
 *
 *   known      the kernel goes by what it was told last, and is told when that has changed
 *   forgotten  for an opening, and nobody has asked since: the kernel need not be told of changes
 *   answered   who asked first may not have taken the answer yet: what would make it forget waits
 */

import { within } from '../../core/within.ts';
import type { Ino } from '../../core/units.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Attributes } from '../../ports/file-system.ts';
import { versionOf } from './seen-versions.ts';

/** Who waits for an answer does not sleep on for so long when it is there, nor does what drops it. */
const takenMs = 100;
/** Instead of the handle of an open file: of somebody who never closes it. */
const nobody = -1n;
/** Threads of other PID namespaces. */
const unnamed = 0;

interface ToldFile {
  /** As the kernel was told; undefined: not known, or it has changed the file by itself since. */
  version: string | undefined;
  /** As the kernel has it, by what it was told or has written. */
  sizeBytes: number | undefined;
  /** Answers count for requests that came at this count of `forgets` or later. */
  since: number;
  /** What makes the kernel forget it at this moment: no answer counts before the last is done. */
  forgetting: number;
  /** Of those, what is not for an opening: it may wait for other requests. */
  telling: Promise<void> | undefined;
  /** Undefined where it is known. */
  opening: Opening | undefined;
}

interface Opening {
  readonly forgotten: Promise<void>;
  /** Open files of those who have to be read to as it was when they opened it, or later. */
  readonly openers: Set<bigint>;
  /** To who asked first. */
  answer: Answer | undefined;
}

interface Answer {
  readonly untilMs: number;
  readonly taken: PromiseWithResolvers<void>;
}

/** A thread has asked, when the kernel had forgotten so much. */
interface Asked {
  readonly thread: number;
  readonly forgets: number;
}

export interface ToldFilesDeps {
  readonly clock: Clock;
  /** The kernel forgets what it was told of the file. Waits for no other request. */
  readonly forget: (ino: Ino) => Promise<void>;
  /** How many are remembered. Of others, the kernel may believe anything. */
  readonly filesMax: number;
}

export class ToldFiles {
  readonly #deps: ToldFilesDeps;
  readonly #files = new Map<Ino, ToldFile>();
  /** Of what threads were answered, which have not been heard of since. */
  readonly #answers = new Map<number, Answer>();
  #forgets = 0;

  constructor(deps: ToldFilesDeps) {
    this.#deps = deps;
  }

  /** How often the kernel has forgotten something. */
  get forgets(): number {
    return this.#forgets;
  }

  /** A thread asks for something: what it was answered before, it has taken. */
  came(thread: number): void {
    if (this.#answers.size === 0) return;
    this.#answers.get(thread)?.taken.resolve();
    this.#answers.delete(thread);
  }

  /** The kernel is answered. `old`: it may have forgotten the file since, and is not to believe it. */
  note(attributes: Attributes, { thread, forgets }: Asked): 'new' | 'old' {
    if (attributes.type !== 'file') return 'new';
    const file = this.#fileOf(attributes.ino);
    if (file.forgetting > 0 || forgets < file.since) return 'old';
    file.version = versionOf(attributes);
    file.sizeBytes = attributes.sizeBytes;
    const { opening } = file;
    if (opening?.openers.size === 0) file.opening = undefined;
    else if (opening) opening.answer ??= this.#answerTo(thread);
    return 'new';
  }

  /** The kernel writes up to `endBytes`, or cuts the file there: then it asks for the times by itself. */
  noteOwn(ino: Ino, what: 'written' | 'cut', endBytes: number): void {
    const file = this.#files.get(ino);
    if (!file) return;
    file.version = undefined;
    if (what === 'cut') file.sizeBytes = endBytes;
    else if (file.sizeBytes !== undefined) file.sizeBytes = Math.max(file.sizeBytes, endBytes);
  }

  /** The file is opened as it is now. Resolves when the kernel has it so, or has to ask. */
  async opened(handle: bigint, attributes: Attributes): Promise<void> {
    const { ino } = attributes;
    const file = this.#fileOf(ino);
    while (!isAs(file, attributes) && file.opening?.answer) await this.#taken(file);
    if (!file.opening) {
      if (isAs(file, attributes)) return;
      file.opening = newOpening(this.#forget(file, () => this.#deps.forget(ino)));
    }
    file.opening.openers.add(handle);
    await file.opening.forgotten;
    // The answer to whoever asks now would be dropped as well.
    if (file.telling) await within(this.#deps.clock, takenMs, file.telling);
  }

  released(ino: Ino, handle: bigint): void {
    const opening = this.#files.get(ino)?.opening;
    if (opening?.openers.delete(handle) && opening.openers.size === 0)
      opening.answer?.taken.resolve();
  }

  /** Others have changed the file: `tell` tells the kernel, unless it has to ask anyway. */
  async changed(ino: Ino, tell: () => Promise<void>): Promise<void> {
    const file = this.#files.get(ino);
    if (!file) return tell();
    while (file.opening?.answer) await this.#taken(file);
    if (!file.opening) await this.#tell(file, tell);
  }

  /** The same, but the kernel has to ask then as it has to for an opening. */
  async drop(ino: Ino, tell: () => Promise<void>): Promise<void> {
    const file = this.#fileOf(ino);
    while (file.opening?.answer) await this.#taken(file);
    await this.#tell(file, tell);
    file.opening ??= newOpening(Promise.resolve());
    file.opening.openers.add(nobody);
  }

  async #tell(file: ToldFile, tell: () => Promise<void>): Promise<void> {
    file.telling = this.#forget(file, tell);
    await file.telling;
    file.telling = undefined;
  }

  async #forget(file: ToldFile, tell: () => Promise<void>): Promise<void> {
    file.forgetting += 1;
    setUnknown(file);
    await tell();
    file.forgetting -= 1;
    this.#forgets += 1;
    file.since = this.#forgets;
    setUnknown(file);
  }

  async #taken(file: ToldFile): Promise<void> {
    const { clock } = this.#deps;
    const { opening } = file;
    if (!opening?.answer) return;
    const { untilMs, taken } = opening.answer;
    const leftMs = untilMs - clock.monotonicMs();
    if (leftMs > 0) await within(clock, leftMs, taken.promise);
    if (file.opening === opening) file.opening = undefined;
  }

  #answerTo(thread: number): Answer {
    const untilMs = this.#deps.clock.monotonicMs() + takenMs;
    const answer = { untilMs, taken: Promise.withResolvers<void>() };
    if (thread !== unnamed) setBounded(this.#answers, thread, answer, this.#deps.filesMax);
    return answer;
  }

  #fileOf(ino: Ino): ToldFile {
    const file = this.#files.get(ino) ?? newFile();
    setBounded(this.#files, ino, file, this.#deps.filesMax);
    return file;
  }
}

function newFile(): ToldFile {
  return {
    ...{ version: undefined, sizeBytes: undefined, since: 0 },
    ...{ forgetting: 0, telling: undefined, opening: undefined },
  };
}

function newOpening(forgotten: Promise<void>): Opening {
  return { forgotten, openers: new Set(), answer: undefined };
}

function setUnknown(file: ToldFile): void {
  file.version = undefined;
  file.sizeBytes = undefined;
}

/** Where it has changed the file by itself, it knows the size, and asks for the rest. */
function isAs({ version, sizeBytes }: ToldFile, attributes: Attributes): boolean {
  return version === undefined
    ? sizeBytes === attributes.sizeBytes
    : version === versionOf(attributes);
}

/** What was set goes to the end, so that what was used longest ago is the first. */
function setBounded<K, V>(map: Map<K, V>, key: K, value: V, max: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= max) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}
