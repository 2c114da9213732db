/**
 * Simulated time: what happens, happens in events, one after another, and after each one everything
 * that it has set going runs until it waits again. Nothing outside is asked, so the same events come
 * in the same order wherever it runs; the hash over all of them says so.
 */

interface Event {
  readonly atMs: number;
  /** Of events of one moment the one that was planned first comes first. */
  readonly order: number;
  readonly label: string;
  readonly act: () => void;
}

/** Of one simulated second: more of them, and something runs without a pause. */
const eventsMax = 20_000;

export interface Scheduler {
  /** Milliseconds of true time. */
  readonly nowMs: number;
  /** Grows with each call: tells what came before what within one moment. */
  tick(): number;
  at(atMs: number, label: string, act: () => void): void;
  after(ms: number, label: string, act: () => void): void;
  sleep(ms: number): Promise<void>;
}

export class EventQueue implements Scheduler {
  nowMs = 0;
  /** FNV-1a over times and labels of all events so far. */
  hash = 0x811c_9dc5;
  eventCount = 0;
  /** Events of the second that is now. */
  #busy = { second: 0, events: 0 };
  /** Told each event, where somebody wants to see them. */
  onEvent: ((atMs: number, label: string) => void) | undefined;
  readonly #heap: Event[] = [];
  #order = 0;
  #ticks = 0;

  tick(): number {
    this.#ticks += 1;
    return this.#ticks;
  }

  at(atMs: number, label: string, act: () => void): void {
    this.#order += 1;
    this.#push({ atMs: Math.max(atMs, this.nowMs), order: this.#order, label, act });
  }

  after(ms: number, label: string, act: () => void): void {
    this.at(this.nowMs + ms, label, act);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, 'sleep', resolve));
  }

  /** Until `isOver`, or until nothing is left to happen. */
  async run(isOver: () => boolean): Promise<void> {
    await settled();
    for (let event = this.#pop(); event && !isOver(); event = this.#pop()) {
      this.nowMs = event.atMs;
      this.#note(event);
      event.act();
      await settled();
    }
  }

  #note({ atMs, label }: Event): void {
    this.eventCount += 1;
    const second = Math.floor(atMs / 1000);
    if (second !== this.#busy.second) this.#busy = { second, events: 0 };
    this.#busy.events += 1;
    if (this.#busy.events > eventsMax) throw new Error(`goes in circles: ${label}`);
    this.onEvent?.(atMs, label);
    let hash = this.hash ^ Math.round(atMs * 1000);
    for (let index = 0; index < label.length; index += 1)
      hash = Math.imul(hash ^ label.charCodeAt(index), 0x0100_0193);
    this.hash = hash >>> 0;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as Event;
      if (!isEarlier(event, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || first === last) return first;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isEarlier(heap[below + 1] as Event, heap[below] as Event))
        below += 1;
      if (!isEarlier(heap[below] as Event, last)) break;
      heap[index] = heap[below] as Event;
      index = below;
    }
    heap[index] = last;
    return first;
  }
}

const isEarlier = (one: Event, other: Event) =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);

/** Everything that an event has set going waits again: promises run before the loop's next turn. */
const settled = () => new Promise((resolve) => setImmediate(resolve));
