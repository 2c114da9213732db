/**
 * Numbers that tell open files apart. Nothing is kept under them, so those that another process
 * has given before it was killed are as good; they are only never given again.
 */

const perProcess = 2n ** 40n;

export class OpenHandles {
  #last: bigint;

  constructor(pid: number) {
    this.#last = BigInt(pid) * perProcess;
  }

  next(): bigint {
    this.#last += 1n;
    return this.#last;
  }
}
