/** `wharf vpool recover`: brings a vPool back whose registry is lost. No daemon runs meanwhile. */

import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openBackend } from '../backend/open-backend.ts';
import { describeError } from '../core/errors.ts';
import { openRegistry } from '../daemon/open-registry.ts';
import type { RecoveryReport } from '../daemon/recovery/recover-vpool.ts';
import { recoverVpool } from '../daemon/recovery/recover-vpool.ts';
import { refuseUnlessEmpty } from '../daemon/recovery/restored-registry.ts';
import type { Settings } from '../daemon/settings.ts';
import { parseSettings } from '../daemon/settings.ts';
import { readSettingsFile } from '../daemon/settings-file.ts';
import { formatTime } from '../daemon/units.ts';
import { nativeChecksum, tableChecksum } from '../platform/checksum.ts';
import { loadNative } from '../platform/native.ts';
import { systemRandom } from '../platform/random.ts';
import { systemClock } from '../platform/system-clock.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Registry } from '../ports/registry.ts';
import { CliError, exitCode } from './exit-code.ts';
import { print } from './reports.ts';
import { table } from './table.ts';
import type { PlaceOptions } from './up.ts';
import { playgroundSettings } from './up.ts';

export interface RecoverOptions extends PlaceOptions {
  /** Settings of one of its hosts, instead of a playground. */
  readonly config?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

const unusedKey = '0'.repeat(64);

export async function recover(vpool: string, options: RecoverOptions): Promise<number> {
  const settings = settingsOf(vpool, options);
  const { native } = loadNative();
  const clock = systemClock(native);
  const line = new ProgressLine();
  const { backend } = await openBackend(
    { ...settings.backend, bucketPrefix: `wharf-${vpool}` },
    { clock, random: systemRandom(), log: troubleLog },
  );
  const checksum = native ? nativeChecksum(native) : tableChecksum();
  const { signal } = new AbortController();
  const onProgress = (text: string) => line.show(text);
  try {
    const report = await withRegistry(settings, clock, options, (registry) =>
      recoverVpool({ registry, backend, checksum, clock, signal, onProgress }, vpool),
    );
    line.end();
    const isDryRun = options.dryRun === true;
    print(options, { ...report, isDryRun }, () => describe(report, isDryRun));
    return report.losses.length > 0 ? exitCode.incomplete : exitCode.ok;
  } finally {
    line.end();
    await backend.close();
  }
}

function settingsOf(vpool: string, options: RecoverOptions): Settings {
  let settings: Settings;
  try {
    const { config } = options;
    const names = { host: 'a', vpool, key: unusedKey };
    settings =
      config === undefined
        ? parseSettings(playgroundSettings(options, names))
        : readSettingsFile(config);
  } catch (error) {
    throw new CliError(describeError(error), exitCode.usage);
  }
  if (settings.vpool === vpool) return settings;
  throw new CliError(
    `NAME: found ${vpool}; allowed is ${settings.vpool}, which --config is for`,
    exitCode.usage,
  );
}

/** A dry run fills one of its own, which is gone afterwards. */
async function withRegistry<T>(
  settings: Settings,
  clock: Clock,
  { dryRun }: RecoverOptions,
  work: (registry: Registry) => Promise<T>,
): Promise<T> {
  const path = settings.registry.sqlite;
  if (dryRun !== true) {
    if (path !== undefined) mkdirSync(dirname(path), { recursive: true });
    return using(await openRegistry(settings, clock), work);
  }
  if (path === undefined || existsSync(path))
    await using(await openRegistry(settings, clock), refuseUnlessEmpty);
  const folder = mkdtempSync(join(tmpdir(), 'wharf-recover-'));
  try {
    const registry = { sqlite: join(folder, 'registry.sqlite') };
    return await using(await openRegistry({ registry }, clock), work);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function using<T>(registry: Registry, work: (registry: Registry) => Promise<T>): Promise<T> {
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}

function describe(report: RecoveryReport, isDryRun: boolean): string {
  const { vpool, names, volumes, files, recovered, losses, namesOfMs, namesAgeMs } = report;
  const asOf = new Date(namesOfMs).toISOString().replace('T', ' ').slice(0, 19);
  const rows = [
    ['vPool', vpool],
    ['names as of', `${asOf} UTC, ${formatTime(namesAgeMs)} ago`],
    ['names', String(names)],
    ['volumes', String(volumes)],
    ['small files', String(files)],
    ['without a name', `${recovered.length} volumes`],
    ['missing', losses.length === 0 ? 'nothing' : `${losses.length} things`],
  ];
  const lines = [
    ...recovered.map((path) => `had no name: ${path}`),
    ...losses.map((loss) => `missing: ${loss}`),
    isDryRun ? 'dry run: nothing was written' : 'recovered: its hosts may start',
  ];
  return `${table(['WHAT', 'FOUND'], rows)}${lines.map((text) => `${text}\n`).join('')}`;
}

/** What it waits for is told; that it works is not. */
const troubleLog: Log = {
  debug() {},
  info() {},
  warn: (facts, message) => tell(facts, message),
  error: (facts, message) => tell(facts, message),
  child: () => troubleLog,
};

function tell(facts: object, message: string): void {
  process.stderr.write(`wharf: ${message} ${JSON.stringify(facts)}\n`);
}

/** One line that is written over and over on a terminal; elsewhere a line for each kind of step. */
class ProgressLine {
  readonly #isTerminal = process.stderr.isTTY;
  #kind = '';

  show(text: string): void {
    if (this.#isTerminal) process.stderr.write(`\r\u001b[K${text}`);
    const [kind = ''] = text.split(/[ ,]/);
    if (!this.#isTerminal && kind !== this.#kind) process.stderr.write(`wharf: ${text}\n`);
    this.#kind = kind;
  }

  end(): void {
    if (this.#isTerminal && this.#kind !== '') process.stderr.write('\r\u001b[K');
    this.#kind = '';
  }
}
