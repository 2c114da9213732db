/**
 * The kernel's switch for FUSE over io_uring, `enable_uring` of the module fuse, which belongs to the
 * whole machine: it stays as a test needs it while that test lasts, and is then as it was found. A
 * child process holds it, by a lock on the switch itself, so that it is put back even where the test
 * is killed. Tests that need it on share it; one that needs it off waits for them, and they for it.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { enableUringPath } from '../../src/frontend/fuse/ring-plan.ts';
import { cannotMount } from './playground.ts';

/** Why there can be no ring here, or false: for the `skip` of a test. */
export const cannotRing: string | false =
  cannotMount || (existsSync(enableUringPath) ? false : 'no FUSE over io_uring in this kernel');

/** What has to be put back is remembered beside, for whoever comes last. */
const program = `
switch=${enableUringPath} found=/run/wharf-test-enable-uring
exec 9<$switch
if [ "$1" = off ]; then
  flock -x 9
  was=$(cat $switch); echo N >$switch
  echo held; cat >/dev/null
  echo $was >$switch; exit
fi
flock -s 9
while [ "$(cat $switch)" != Y ]; do
  flock -x 9
  [ "$(cat $switch)" = Y ] || { cat $switch >$found; echo Y >$switch; }
  flock -s 9
done
echo held; cat >/dev/null
if flock -x -n 9 && [ -e $found ]; then cat $found >$switch; rm $found; fi
`;

export class RingSwitch implements AsyncDisposable {
  readonly #holder: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.#ended = new Promise((resolve) => holder.on('close', () => resolve()));
  }

  static async turn(to: 'on' | 'off'): Promise<RingSwitch> {
    // Its own group, and deaf to the terminal's Ctrl-C: it ends when its input does.
    const holder = spawn('sh', ['-c', program, 'sh', to], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    const made = new RingSwitch(holder);
    const held = new Promise<'held'>((resolve) =>
      holder.stdout?.once('data', () => resolve('held')),
    );
    if ((await Promise.race([held, made.#ended])) !== 'held')
      throw new Error(`enable_uring can't be turned ${to}`);
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#holder.stdin?.end();
    await this.#ended;
  }
}
