/** The `wharf` command. */

import { spawnSync } from 'node:child_process';
import { Command } from 'commander';
import { describeError } from '../core/errors.ts';
import { bashCompletion } from './completion.ts';
import { daemonEnvironment, daemonFile, daemonFlags } from './daemon-process.ts';
import { CliError, exitCode } from './exit-code.ts';
import { drainHost } from './drain.ts';
import type { CopyOptions } from './image-place.ts';
import type { FollowOptions, GlobalOptions, PinOptions } from './reports.ts';
import {
  followVdisk,
  listHosts,
  listVdisks,
  listVpools,
  moveVdisk,
  pinVdisk,
  showStatus,
  showVdisk,
  syncVdisk,
  takeOverVdisk,
} from './reports.ts';
import type { UpOptions } from './up.ts';
import { up } from './up.ts';
import { diffVdisk } from './vdisk-diff.ts';
import { applyIncrement } from './vdisk-apply.ts';
import type { ExportOptions } from './vdisk-export.ts';
import { exportVdisk } from './vdisk-export.ts';
import { importVdisk } from './vdisk-import.ts';
import type { RecoverOptions } from './vpool-recover.ts';
import { recover } from './vpool-recover.ts';
import type { SizeOptions } from './vdisk-life.ts';
import { createVdisk, deleteVdisk, renameVdisk, resizeVdisk } from './vdisk-life.ts';
import type { SureOptions, VmOptions } from './vdisk-snapshots.ts';
import type { ScrubFlags } from './vpool-scrub.ts';
import { scrubVpool } from './vpool-scrub.ts';
import {
  cloneVdisk,
  compactVdisk,
  createSnapshot,
  createTemplate,
  createVmSnapshot,
  deleteSnapshot,
  deleteTemplate,
  flattenVdisk,
  listSnapshots,
  listTemplates,
  listVmSnapshots,
  rollBack,
} from './vdisk-snapshots.ts';

const program = new Command('wharf')
  .description('A datastore for virtual machines on an object store')
  .showHelpAfterError(false)
  .exitOverride();

/** A command that asks a daemon. */
function asking(parent: Command, usage: string, description: string): Command {
  return parent
    .command(usage)
    .description(description)
    .option('--admin <url>', 'admin API of the daemon (or WHARF_ADMIN)')
    .option('--json', 'print JSON');
}

/** A command that says where a playground keeps what its hosts share. */
function placed(command: Command): Command {
  return command
    .option('--dir <dir>', 'folder of the playground', './playground')
    .option('--backend <kind>', 'object store: dir or s3', 'dir')
    .option('--s3-endpoint <url>', 'URL of the S3 server')
    .option('--s3-region <region>', 'region of the S3 server', 'us-east-1')
    .option('--registry <kind>', 'registry: sqlite or etcd', 'sqlite')
    .option('--etcd-endpoints <urls>', 'URLs of etcd, separated by commas');
}

placed(program.command('up'))
  .description('start a playground: hosts with embedded registry and object store')
  .option('--hosts <n>', 'number of hosts', '2')
  .option('--json', 'print one line of JSON when ready')
  .action(async (options: UpOptions) => {
    process.exitCode = await up(options);
  });

program
  .command('daemon')
  .description('run the daemon of one host')
  .requiredOption('--config <file>', 'settings, as config/wharf.yaml')
  .action(({ config }: { config: string }) => {
    const argv = [...daemonFlags, daemonFile, '--config', config];
    const env = daemonEnvironment();
    process.on('SIGTERM', () => {});
    process.on('SIGINT', () => {});
    process.exitCode = spawnSync(process.execPath, argv, { stdio: 'inherit', env }).status ?? 1;
  });

asking(program, 'status', 'how the host is').action((options: GlobalOptions) =>
  showStatus(options),
);

const hosts = program.command('host').description('hosts of the vPool');
asking(hosts, 'list', 'list them').action((options: GlobalOptions) => listHosts(options));
asking(hosts, 'drain <host>', 'hand all that it owns over, before maintenance')
  .option('--off', 'let it take part again')
  .action((host: string, options: GlobalOptions & { off?: boolean }) => drainHost(host, options));

const vpools = program.command('vpool').description('datastores');
asking(vpools, 'list', 'list them').action((options: GlobalOptions) => listVpools(options));

placed(vpools.command('recover <name>'))
  .description('bring one back whose registry is lost, from its buckets alone; its hosts are down')
  .option('--config <file>', 'settings of one of its hosts, instead of a playground')
  .option('--dry-run', 'only say what would be found')
  .option('--json', 'print JSON')
  .action(async (name: string, options: RecoverOptions) => {
    process.exitCode = await recover(name, options);
  });
asking(vpools, 'scrub <name>', 'verify all checksums and references, and list what nobody needs')
  .option('--repair', 'delete what nobody needs, and put right what can be')
  .option('--rate <size>', 'bytes a second that it reads', '64MiB')
  .action((name: string, options: ScrubFlags) => scrubVpool(name, options));

const vdisks = program.command('vdisk').description('virtual disks');
asking(vdisks, 'list', 'list them').action((options: GlobalOptions) => listVdisks(options));
asking(vdisks, 'show <path>', 'show one').action((path: string, options: GlobalOptions) =>
  showVdisk(path, options),
);
asking(vdisks, 'create <path>', 'make one; it takes no space yet')
  .requiredOption('--size <size>', 'as 20G, 20GiB or 512M')
  .action((path: string, options: SizeOptions) => createVdisk(path, options));
asking(vdisks, 'resize <path>', 'change its size while it is in use')
  .requiredOption('--size <size>', 'as 20G, 20GiB or 512M')
  .option('--force', 'shrink it: what lies behind the new end is lost')
  .action((path: string, options: SizeOptions & { force?: boolean }) => resizeVdisk(path, options));
asking(vdisks, 'rename <path> <newPath>', 'give it another name or folder').action(
  (path: string, newPath: string, options: GlobalOptions) => renameVdisk(path, newPath, options),
);
asking(vdisks, 'delete <path>', 'remove it and its data')
  .option('--yes', 'do not ask')
  .action((path: string, options: GlobalOptions & { yes?: boolean }) => deleteVdisk(path, options));
asking(vdisks, 'import <file> <path>', 'make one of an image: raw, qcow2, vmdk, vhdx; -: of a pipe')
  .option('--format <format>', 'of the image; otherwise its content says it')
  .option('--force', 'replace a vDisk of that name; with --apply: roll it back first')
  .option('--apply', 'bring a copy to the next snapshot by an increment of `export --since`')
  .action((file: string, path: string, options: CopyOptions & { apply?: boolean }) =>
    options.apply === true ? applyIncrement(file, path, options) : importVdisk(file, path, options),
  );
asking(vdisks, 'export <path> <file>', 'make an image of one or of PATH@SNAPSHOT; -: into a pipe')
  .option('--format <format>', 'of the image: raw, qcow2, vmdk or vhdx', 'raw')
  .option('--force', 'replace a file of that name')
  .option('--since <snapshot>', 'an increment: only what changed since then')
  .action((path: string, file: string, options: ExportOptions) => exportVdisk(path, file, options));
asking(
  vdisks,
  'diff <from> <to>',
  'what changed from PATH@A to PATH@B, or to PATH as it is now',
).action((from: string, to: string, options: GlobalOptions) => diffVdisk(from, to, options));
asking(
  vdisks,
  'clone <source> <path>',
  'make one of another, or of PATH@SNAPSHOT: takes no space',
).action((source: string, path: string, options: GlobalOptions) =>
  cloneVdisk(source, path, options),
);
asking(
  vdisks,
  'flatten <path>',
  'copy what a clone reads from its source, so that it stands alone',
).action((path: string, options: GlobalOptions) => flattenVdisk(path, options));
asking(vdisks, 'compact <path>', 'win space back on the object store')
  .option('--dry-run', 'only say what would be done')
  .action((path: string, options: GlobalOptions & { dryRun?: boolean }) =>
    compactVdisk(path, options),
  );
asking(vdisks, 'move <path>', 'hand one over to another host')
  .requiredOption('--to <host>', 'id of the host')
  .action((path: string, options: GlobalOptions & { to: string }) => moveVdisk(path, options));
asking(vdisks, 'pin <path>', 'keep one where it is, however much is forwarded')
  .option('--to <host>', 'hand it over to this host first')
  .option('--off', 'let it follow its user again')
  .action((path: string, options: PinOptions) => pinVdisk(path, options));
asking(vdisks, 'follow <path>', 'set when a host that uses one fetches it')
  .option('--reads <n>', 'forwarded reads within the window; 0: never', '200')
  .option('--writes <n>', 'forwarded writes within the window; 0: never', '200')
  .option('--window <time>', 'the window', '1s')
  .option('--default', 'as for all disks of the vPool')
  .action((path: string, options: FollowOptions) => followVdisk(path, options));
asking(vdisks, 'takeover <path>', 'have one served whose owner is gone')
  .option('--accept-loss', 'give up what only hosts that are gone have of it')
  .action((path: string, options: GlobalOptions & { acceptLoss?: boolean }) =>
    takeOverVdisk(path, options),
  );
asking(vdisks, 'sync <path>', 'return when all of it is on the backend').action(
  (path: string, options: GlobalOptions) => syncVdisk(path, options),
);

const ofVm = ['--vm', 'the path is the folder of a VM: all that it holds'] as const;
const snapshots = vdisks.command('snapshot').description('states of one that are kept');
asking(snapshots, 'create <path> [name]', 'keep it as it is now; the name is the time otherwise')
  .option(...ofVm)
  .action((path: string, name: string | undefined, options: VmOptions) =>
    options.vm === true
      ? createVmSnapshot(path, name, options)
      : createSnapshot(path, name, options),
  );
asking(snapshots, 'list <path>', 'list them')
  .option(...ofVm)
  .action((path: string, options: VmOptions) =>
    options.vm === true ? listVmSnapshots(path, options) : listSnapshots(path, options),
  );
asking(snapshots, 'delete <path> <name>', 'give one up')
  .option(...ofVm)
  .option('--yes', 'do not ask')
  .action((path: string, name: string, options: SureOptions & VmOptions) =>
    deleteSnapshot(path, name, options),
  );
asking(snapshots, 'rollback <path> <name>', 'make the disk what it was then')
  .option(...ofVm)
  .option('--yes', 'do not ask')
  .option('--force', 'although somebody has it open')
  .action((path: string, name: string, options: SureOptions & VmOptions & { force?: boolean }) =>
    rollBack(path, name, options),
  );

const templates = program.command('template').description('vDisks to make clones of');
asking(templates, 'create <path>', 'make a vDisk one: it is not written any more').action(
  (path: string, options: GlobalOptions) => createTemplate(path, options),
);
asking(templates, 'list', 'list them').action((options: GlobalOptions) => listTemplates(options));
asking(templates, 'delete <path>', 'remove one that has no clones')
  .option('--yes', 'do not ask')
  .action((path: string, options: SureOptions) => deleteTemplate(path, options));

program
  .command('completion')
  .description('completion of commands and flags by a shell')
  .command('bash')
  .description('print a script for bash: source <(wharf completion bash)')
  .action(() => void process.stdout.write(bashCompletion(program)));

try {
  await program.parseAsync();
} catch (error) {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === 'string' && code.startsWith('commander.')) {
    // Help and version are no mistake; commander has printed its own line for everything else.
    const isHelp = code === 'commander.help' || code === 'commander.helpDisplayed';
    process.exitCode = isHelp ? exitCode.ok : exitCode.usage;
  } else {
    if (message !== '') process.stderr.write(`wharf: ${describeError(error)}\n`);
    process.exitCode = error instanceof CliError ? error.code : exitCode.failed;
  }
}
