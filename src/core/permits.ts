/**
 * A bound that is waited for: at most `capacity` units are out at once, first come, first served.
 * Units are whatever the owner counts: requests, or bytes. A request above the capacity is granted
 * alone, when nothing else is out, so that no size can wait for ever.
 */
export class Permits {
  readonly capacity: number;
  #out = 0;
  readonly #waiting: { units: number; grant: () => void; refuse: (reason: unknown) => void }[] = [];

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get out(): number {
    return this.#out;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** True when the units were there at once; the caller then holds them. */
  tryAcquire(units: number): boolean {
    if (this.#waiting.length > 0 || !this.#fits(units)) return false;
    this.#out += units;
    return true;
  }

  /** Resolves when the units are held. Abort ends the wait with the signal's reason. */
  acquire(units: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.tryAcquire(units)) return Promise.resolve();
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const waiter = { units, grant: resolve, refuse: reject };
      if (signal) {
        const onAbort = () => {
          this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
          reject(signal.reason as Error);
          this.#serve();
        };
        signal.addEventListener('abort', onAbort, { once: true });
        waiter.grant = () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        };
      }
      this.#waiting.push(waiter);
    });
  }

  release(units: number): void {
    this.#out -= units;
    this.#serve();
  }

  async run<T>(units: number, work: () => Promise<T>): Promise<T> {
    await this.acquire(units);
    try {
      return await work();
    } finally {
      this.release(units);
    }
  }

  #fits(units: number): boolean {
    return this.#out === 0 || this.#out + units <= this.capacity;
  }

  #serve(): void {
    for (let first = this.#waiting[0]; first && this.#fits(first.units); first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#out += first.units;
      first.grant();
    }
  }
}
