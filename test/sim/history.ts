/**
 * What clients sent to one disk and what they were told, unit by unit, and whether what they read can
 * be true. A unit is a register: each write gives it a value that no other write gives.
 *
 * - While hosts live: linearizable. A read returns the value of a write that may be the last one
 *   at some moment between the read's begin and its end (Gibbons and Korach, 1997). A write whose answer
 *   never came may happen at any time.
 * - After a crash that may have cost writes: a prefix. What is lost was at stake, and everything of
 *   which it is known that it was acknowledged before something that is there, is there too.
 * - A flush that succeeds makes durable what was acknowledged before, unless a crash has taken it from
 *   users elsewhere. It fails, once, if that has happened to users of the same daemon.
 */

import { StorageError } from '../../src/core/errors.ts';
import type { Scheduler } from './scheduler.ts';

/** A promise that was broken. */
export class Violation extends StorageError {
  constructor(what: string) {
    super('corrupt', what);
  }
}

export interface Write {
  /** 0: zeroes. */
  readonly value: number;
  readonly began: number;
  /** On the scheduler's ticks; infinite while nobody was told. */
  ended: number;
  /** Hosts that may have had it and have lost power since. */
  readonly lostOn: Set<string>;
  /** Who was told. */
  by?: object | undefined;
  /** It was surely lost. */
  isLost?: boolean;
  /** When a flush has failed for it, or may have. */
  toldAt?: number;
  mayBeTold?: boolean;
  /** An administrator went on without it, whatever a flush that had begun by then says. */
  givenUpAt?: number;
}

interface Entry {
  readonly write: Write;
  /** From then on it is surely overwritten. */
  over: number;
  /** A crash has taken it. */
  isLost?: boolean;
  /** It is overwritten only in so far as this was read, of which nobody has been told that it is written. */
  seen?: Write;
}

export interface Read {
  readonly first: number;
  readonly count: number;
  readonly began: number;
}

/** Of what a snapshot has, what began last; of what it has not, what ended first. */
export interface Span {
  readonly newest: Write | undefined;
  readonly missing: Write | undefined;
}

const never = Number.POSITIVE_INFINITY;
/** Read of a unit that is damaged, and is refused. */
export const unreadable = -1;

/** The first unit that was read twice and is not the same; -1: none. */
export function differentUnit(values: readonly number[], others: readonly number[]): number {
  return values.findIndex((value, unit) => {
    const other = others[unit] as number;
    return value !== other && value !== unreadable && other !== unreadable;
  });
}

export class History {
  readonly name: string;
  readonly unitBytes: number;
  readonly #scheduler: Pick<Scheduler, 'tick'>;
  readonly #units: Entry[][] = [];
  #unflushed: Write[] = [];
  /** An acknowledgement may be on its way although the power is gone where it comes from. */
  readonly #underWay = new Set<Write>();
  /** Writes that a power cut may have taken, since they were last looked for. */
  #atRisk = new Set<Write>();
  /** A crash may have taken them, and what was written since hides whether it has. */
  readonly #hidden = new Set<Write>();
  #crashed: number | undefined;
  /** So often something may have been lost: what was read before and behind that is no one state. */
  crashes = 0;
  /** What crashes may have taken and no flush has told of. */
  #doubtful = new Set<Write>();

  /** A disk that begins with these values. */
  constructor(
    scheduler: Pick<Scheduler, 'tick'>,
    name: string,
    unitBytes: number,
    values: readonly number[],
  ) {
    this.#scheduler = scheduler;
    this.name = name;
    this.unitBytes = unitBytes;
    for (const value of values) this.#units.push([{ write: { ...zeroes(), value }, over: never }]);
  }

  get unitCount(): number {
    return this.#units.length;
  }

  /** Some writes may be lost: until `lookedThrough`, reads may see what was before them. */
  get isUncertain(): boolean {
    return this.#crashed !== undefined;
  }

  beginWrite(first: number, count: number, value: number): Write {
    const began = this.#scheduler.tick();
    const write: Write = { value, began, ended: never, lostOn: new Set() };
    this.#underWay.add(write);
    for (let unit = first; unit < first + count; unit += 1)
      this.#units[unit]?.push({ write, over: never });
    return write;
  }

  /** `by`: the daemon that has told its user. */
  endWrite(write: Write, first: number, count: number, by?: object): void {
    write.ended = this.#scheduler.tick();
    write.by = by;
    this.#underWay.delete(write);
    this.#unflushed.push(write);
    for (let unit = first; unit < first + count; unit += 1)
      this.#supersede(unit, write.began, write.ended, write);
  }

  beginFlush(): number {
    return this.#scheduler.tick();
  }

  /** What was acknowledged before the flush began is durable. */
  endFlush(began: number, by?: object): void {
    for (const write of this.#doubtful) {
      if (write.by !== by || write.ended >= began) continue;
      if (write.isLost === true && write.mayBeTold !== true)
        throw new Violation(`${this.name}: write ${write.value} is lost, and a flush says nothing`);
      this.#doubtful.delete(write);
    }
    this.#unflushed = this.#unflushed.filter((write) => {
      const isSure = write.by === by && (write.givenUpAt ?? 0) < began;
      const isDurable = write.ended < began && (isSure || !this.#atRisk.has(write));
      if (isDurable) this.#atRisk.delete(write);
      return !isDurable;
    });
  }

  /** A flush says that something is lost, or that it can't be done. */
  failFlush(began: number, by: object, isImpossible = false): void {
    const now = this.#scheduler.tick();
    const doubtful = [...this.#doubtful, ...this.#atRisk].filter(
      (write) => write.by === by && (write.toldAt ?? never) > began,
    );
    if (doubtful.length === 0 && !isImpossible)
      throw new Violation(`${this.name}: a flush fails, and nothing could take anything`);
    for (const write of doubtful) {
      write.mayBeTold = true;
      if (write.ended < began && !isImpossible) write.toldAt ??= now;
    }
  }

  beginRead(first: number, count: number): Read {
    return { first, count, began: this.#scheduler.tick() };
  }

  endRead({ first, count, began }: Read, values: readonly number[]): void {
    const ended = this.#scheduler.tick();
    // What is recovered is looked at as a whole: see lookedThrough.
    if (this.#crashed !== undefined) return;
    for (let index = 0; index < count; index += 1) {
      const unit = first + index;
      const value = values[index] as number;
      if (value === unreadable) continue;
      const possible = this.#entriesOf(unit, value);
      const seen = possible.filter(({ over }) => over > began);
      if (seen.length === 0) throw new Violation(this.#unlikely(unit, value, possible.length > 0));
      const [only] = seen;
      // Of several zeroes nobody knows which was read.
      if (only && seen.length === 1) this.#supersede(unit, began, ended, only.write);
    }
  }

  /** What was read of writes that nobody was told of may be gone with the tenure that was asked. */
  tenureBegins(): void {
    for (const entry of this.#units.flat()) {
      if (entry.seen?.ended === never) entry.over = never;
      delete entry.seen;
    }
  }

  /** The host has got all that there is: a copy is complete, or a volume was handed over. */
  givenTo(host: string): void {
    for (const { lostOn } of this.#unflushed) lostOn.delete(host);
  }

  /**
   * The host goes on with what it has: an owner that is back before others have taken the volume, or the
   * host of a copy whose owner is gone. If it has been through a power cut, that lacks what was not
   * synced and what nobody has flushed; where a record may be missing, what came behind it.
   */
  recoveredBy(host: string, mayLackRecord = false): void {
    this.#risk(({ lostOn }) => mayLackRecord || lostOn.has(host));
  }

  /**
   * The host has lost power, and what was on its SSD and not synced. Each of `holders` had all that was
   * acknowledged.
   */
  cutPower(host: string, holders: readonly string[]): void {
    for (const { lostOn } of [...this.#unflushed, ...this.#underWay]) lostOn.add(host);
    this.#risk(({ lostOn }) => holders.every((holder) => lostOn.has(holder)));
  }

  /** What an administrator gave up may have held the size. */
  mayBeShort = false;

  /** An administrator goes on without what hosts have that are gone, synced or not; a flush may say so. */
  givenUp(): void {
    this.mayBeShort = true;
    this.crashes += 1;
    this.#crashed ??= this.#scheduler.tick();
    for (const { write } of this.#units.flat()) {
      this.#atRisk.add(write);
      write.mayBeTold = true;
      write.givenUpAt = this.#crashed;
    }
  }

  #risk(isAtRisk: (write: Write) => boolean): void {
    this.crashes += 1;
    for (const write of [...this.#unflushed, ...this.#underWay])
      if (isAtRisk(write)) this.#atRisk.add(write);
    if (this.#atRisk.size > 0) this.#crashed ??= this.#scheduler.tick();
  }

  /** All of it was read after a crash, while nothing else was under way. */
  lookedThrough(values: readonly number[]): void {
    const crashed = this.#crashed ?? this.#scheduler.tick();
    let lost: Write | undefined;
    let kept: Write | undefined;
    for (const [unit, value] of values.entries()) {
      if (value === unreadable) continue;
      const possible = this.#entriesOf(unit, value);
      const found = possible.at(-1)?.write;
      if (!found) throw new Violation(this.#unlikely(unit, value, false));
      for (const { write, isLost = false } of this.#units[unit] as Entry[]) {
        if (isLost || write.ended > crashed || write.began <= found.ended) continue;
        if (this.#hidden.has(write)) continue;
        if (!this.#atRisk.has(write))
          throw new Violation(
            `${this.name}, unit ${unit}: write ${write.value}, which nothing could take, is lost; ` +
              `there is ${value}`,
          );
        if (!lost || write.ended < lost.ended) lost = write;
      }
      // What was made again after the crash says nothing of what was recovered.
      if (possible.length > 1 || found.ended > crashed) continue;
      if (!kept || found.began > kept.began) kept = found;
    }
    if (lost && kept && lost.ended < kept.began)
      throw new Violation(
        `${this.name} is no prefix: write ${lost.value} is lost, and ${kept.value}, ` +
          'which was sent when that was acknowledged, is there',
      );
    this.#begin(values);
  }

  /** What each unit may be, from `began` to now. A snapshot is one of those states. */
  checkSnapshot(values: readonly number[], began: number, ended: number): Span {
    let missing: Write | undefined;
    let newest: Write | undefined;
    for (const [unit, value] of values.entries()) {
      if (value === unreadable) continue;
      const possible = this.#entriesOf(unit, value);
      const seen = possible.findLast(({ over, write }) => over > began && write.began < ended);
      if (!seen)
        throw new Violation(`snapshot of ${this.#unlikely(unit, value, possible.length > 0)}`);
      for (const { write, isLost = false } of this.#units[unit] as Entry[])
        if (!isLost && write.began > seen.write.ended && (!missing || write.ended < missing.ended))
          missing = write;
      if (possible.length === 1 && (!newest || seen.write.began > newest.began))
        newest = seen.write;
    }
    if (missing && newest && missing.ended < newest.began)
      throw new Violation(
        `snapshot of ${this.name} is of no moment: it has write ${newest.value} and not ` +
          `${missing.value}, which was acknowledged before`,
      );
    return { newest, missing };
  }

  /** It has so many units from now on; the new ones are zeroes. */
  grow(units: number): void {
    while (this.#units.length < units) this.#units.push([{ write: zeroes(), over: never }]);
  }

  /** It holds other values by now, which are durable: at some moment they have taken its place. */
  replaced(values: readonly number[], began: number): void {
    const now = this.#scheduler.tick();
    for (const [unit, value] of values.entries()) {
      if (value === unreadable) continue;
      const write: Write = { value, began, ended: now, lostOn: new Set() };
      // What a host sent before it died may still come.
      for (const entry of this.#units[unit] as Entry[])
        if (entry.write.ended !== never) entry.over = Math.min(entry.over, now);
      this.#units[unit]?.push({ write, over: never });
    }
    this.#begin(values);
    this.#unflushed = [];
  }

  /** Nobody knows whether it will: who asked for it has died. */
  mayBeReplaced(values: readonly number[]): void {
    for (const [unit, value] of values.entries()) this.beginWrite(unit, 1, value);
  }

  /** From here on it holds these values, whatever was; what is under way may still come. */
  #begin(values: readonly number[]): void {
    const now = this.#scheduler.tick();
    for (const write of this.#atRisk) this.#hidden.add(write);
    for (const [unit, value] of values.entries()) {
      if (value === unreadable) continue;
      const found = this.#entriesOf(unit, value).at(-1);
      if (found) this.#hidden.delete(found.write);
      if (found) found.over = never;
      for (const entry of this.#units[unit] as Entry[]) {
        if (entry === found || entry.write.ended === never) continue;
        entry.over = Math.min(entry.over, now);
        if (!found || entry.write.began <= found.write.ended) continue;
        entry.isLost = true;
        entry.write.isLost = true;
      }
    }
    const crashed = this.#crashed ?? now;
    for (const write of this.#atRisk) this.#doubtful.add(write);
    this.#unflushed = this.#unflushed.filter(
      (write) => !this.#atRisk.has(write) || (write.ended > crashed && write.isLost !== true),
    );
    this.#atRisk = new Set();
    this.#crashed = undefined;
  }

  /** Of several zeroes the last one is that which ended last: it says least of what is lost. */
  #entriesOf(unit: number, value: number): Entry[] {
    const found = (this.#units[unit] ?? []).filter(
      ({ write, isLost = false }) => !isLost && write.value === value,
    );
    return found.sort(({ write: left }, { write: right }) =>
      left.ended === right.ended ? 0 : left.ended - right.ended,
    );
  }

  /** All that had ended when this began is over by the time that it ended. */
  #supersede(unit: number, began: number, ended: number, by: Write): void {
    for (const entry of this.#units[unit] as Entry[]) {
      if (entry.write === by || entry.write.ended >= began) continue;
      if (entry.over === never && by.ended === never) entry.seen = by;
      if (by.ended !== never) delete entry.seen;
      entry.over = Math.min(entry.over, ended);
    }
  }

  #unlikely(unit: number, value: number, wasThere: boolean): string {
    const entries = this.#units[unit] as Entry[];
    const possible = entries.filter(({ over }) => over === never).map(({ write }) => write.value);
    const what = wasThere ? 'is old' : 'was never written there';
    return `${this.name}, unit ${unit}: ${value} ${what}; possible: ${possible.join(' or ')}`;
  }
}

const zeroes = (): Write => ({ value: 0, began: 0, ended: 0, lostOn: new Set() });
