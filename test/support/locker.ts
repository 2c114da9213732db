/** A process of its own that takes locks as any program does: Python is in every Debian. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const program = `
import errno, fcntl, json, os, signal, struct, sys
layout, types = 'hhqqi4x', {'read': 0, 'write': 1, 'none': 2}
commands = {'posix': (5, 6, 7), 'ofd': (36, 37, 38)}
files = {}

def interrupted(*_):
    raise InterruptedError(errno.EINTR, 'a signal')

signal.signal(signal.SIGALRM, interrupted)

def run(file, path=None, kind=None, type=None, start=0, length=0, wait=False, alarm=0, what='set'):
    if path is not None:
        files[file] = os.open(path, os.O_RDWR | os.O_CREAT)
        return 'open'
    fd = files[file]
    if what == 'increment':
        for _ in range(length):
            fcntl.fcntl(fd, 38, struct.pack(layout, 1, 0, 0, 0, 0))
            value = int(os.pread(fd, 100, 0)) + 1
            os.pwrite(fd, b'%d' % value, 0)
            fcntl.fcntl(fd, 37, struct.pack(layout, 2, 0, 0, 0, 0))
        return 'done'
    if kind is None:
        os.close(fd)
        return 'closed'
    if alarm: signal.setitimer(signal.ITIMER_REAL, alarm)
    if kind == 'flock':
        how = {'read': fcntl.LOCK_SH, 'write': fcntl.LOCK_EX, 'none': fcntl.LOCK_UN}[type]
        fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
        return 'done'
    get, take, take_later = commands[kind]
    wanted = struct.pack(layout, types[type], 0, start, length, 0)
    found = fcntl.fcntl(fd, get if what == 'get' else take_later if wait else take, wanted)
    if what == 'set': return 'done'
    found_type, _, start, length, pid = struct.unpack(layout, found)
    return [found_type, start, length, pid]

for line in sys.stdin:
    try: answer = run(**json.loads(line))
    except OSError as error: answer = errno.errorcode[error.errno]
    print(json.dumps(answer), flush=True)
`;

export interface LockCommand {
  readonly kind: 'posix' | 'ofd' | 'flock';
  readonly type: 'read' | 'write' | 'none';
  readonly start?: number;
  /** 0: all that is behind. */
  readonly length?: number;
  readonly wait?: boolean;
  /** Seconds after which a signal comes. */
  readonly alarm?: number;
  readonly what?: 'set' | 'get';
}

export class Locker implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #answers: ((text: string) => void)[] = [];
  readonly #ended: Promise<void>;

  constructor() {
    const child = spawn('python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    const { stdin, stdout } = child;
    stdin.on('error', () => {});
    createInterface(stdout).on('line', (line) => this.#answers.shift()?.(line));
    this.#ended = new Promise((resolve) => {
      child.on('close', () => {
        for (const answer of this.#answers) answer('"ended"');
        resolve();
      });
    });
  }

  open(path: string, file = 1): Promise<unknown> {
    return this.#ask({ file, path });
  }

  close(file = 1): Promise<unknown> {
    return this.#ask({ file });
  }

  /** `done`, the name of an errno, or the lock that was found. */
  lock(command: LockCommand, file = 1): Promise<unknown> {
    return this.#ask({ file, ...command });
  }

  /** Adds 1 to the number in the file, so many times, under its lock each. */
  increment(length: number): Promise<unknown> {
    return this.#ask({ file: 1, what: 'increment', length });
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #ask(command: object): Promise<unknown> {
    return new Promise((resolve) => {
      this.#answers.push((text) => resolve(JSON.parse(text)));
      this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    });
  }
}
