/**
 * A real guest for end-to-end tests: Debian's cloud kernel and a busybox initramfs, booted by QEMU
 * under software emulation, with a disk of the vPool on virtio and `cache=none`. The init script
 * takes its orders from the kernel's command line and says how it went on its console.
 */

import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const bootTimeoutMs = 180_000;
const busybox = '/bin/busybox';
const modules = [
  'virtio/virtio_ring',
  'virtio/virtio',
  'virtio/virtio_pci_modern_dev',
  'virtio/virtio_pci_legacy_dev',
  'virtio/virtio_pci',
  'block/virtio_blk',
];
const kernel = globSync('/boot/vmlinuz-*-cloud-amd64').sort().at(-1);

/** Why this machine can't boot the guest, or false. */
export const cannotBoot: string | false = !kernel
  ? 'no linux-image-cloud-amd64'
  : !existsSync('/usr/bin/qemu-system-x86_64')
    ? 'no qemu-system-x86'
    : !existsSync(busybox)
      ? 'no busybox-static'
      : false;

/** What `stamp` writes: regions in turn, each block with the number of its round and its own. */
export const stampLayout = { regions: 4, regionBlocks: 256, blockBytes: 4096 } as const;

/** What the guest says when a round is durable and has been read back. */
export const roundSaid = /WHARF-GUEST: ROUND (\d+)\r?\n/g;

export type GuestOrder = 'write' | 'check' | 'stamp';

/**
 * `write`: makes files with checksums and syncs. `check`: finds them whole. Both power off.
 * `stamp`: writes, syncs, reads and compares rounds of stamped blocks until it is ended.
 */
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod $module; done
order=$(sed 's/.*wharf.order=\\([a-z]*\\).*/\\1/' /proc/cmdline)
sleep 1
fail() { echo "WHARF-GUEST: FAIL $1"; poweroff -f; }
stamp() {
  round=0
  while :; do
    round=$((round + 1))
    at=$((round % ${stampLayout.regions} * ${stampLayout.regionBlocks}))
    awk -v round=$round -v at=$at 'BEGIN {
      for (i = 0; i < ${stampLayout.regionBlocks}; i++) printf "%08d %08d %4077d\\n", round, at + i, round
    }' > /stamps
    dd if=/stamps of=/dev/vda bs=4096 seek=$at oflag=direct conv=notrunc,fsync 2>/dev/null || fail write
    dd if=/dev/vda bs=4096 skip=$at count=${stampLayout.regionBlocks} iflag=direct 2>/dev/null |
      cmp -s - /stamps || fail compare
    echo "WHARF-GUEST: ROUND $round"
  done
}
[ $order = stamp ] && stamp
mkdir -p /disk
mount -t ext4 /dev/vda /disk || fail mount
case $order in
  write)
    for i in 1 2 3 4 5 6 7 8; do
      dd if=/dev/urandom of=/disk/file$i bs=64k count=$((i * 8)) 2>/dev/null || fail write
      [ $i = 4 ] && sync
    done
    rm /disk/file2; mkdir /disk/folder; mv /disk/file3 /disk/folder/
    (cd /disk && find . -type f ! -name sums | sort | xargs sha1sum > sums) || fail sums
    sync ;;
  check) (cd /disk && sha1sum -c sums >/dev/null) || fail check ;;
  *) fail order ;;
esac
umount /disk || fail umount
echo "WHARF-GUEST: PASS $order"
poweroff -f
`;

function buildInitramfs(folder: string): string {
  const release = basename(kernel ?? '').replace('vmlinuz-', '');
  const tree = join(folder, 'initramfs');
  for (const name of ['bin', 'modules', 'proc', 'sys', 'dev'])
    mkdirSync(join(tree, name), { recursive: true });
  cpSync(busybox, join(tree, 'bin/busybox'));
  modules.forEach((module, index) => {
    const from = `/lib/modules/${release}/kernel/drivers/${module}.ko`;
    cpSync(from, join(tree, 'modules', `${index}-${basename(module)}.ko`));
  });
  writeFileSync(join(tree, 'init'), initScript, { mode: 0o755 });
  const archive = join(folder, 'initramfs.cpio');
  execFileSync('sh', ['-c', `find . | cpio -o -H newc --quiet > '${archive}'`], { cwd: tree });
  return archive;
}

export interface Boot {
  readonly passed: boolean;
  readonly console: string;
}

/** What QEMU boots the guest with; `folder` is for what the boot needs. */
export function guestArguments(folder: string, order: GuestOrder): string[] {
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem', '-machine', 'q35'],
    ...['-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio'],
    ...['-kernel', kernel ?? '', '-initrd', buildInitramfs(folder)],
    ...['-append', `console=ttyS0 panic=-1 quiet wharf.order=${order}`],
  ];
}

/** Boots the guest with `disk` and gives what it said. */
export async function bootGuest(
  folder: string,
  disk: string,
  order: 'write' | 'check',
): Promise<Boot> {
  const argv = [
    ...guestArguments(folder, order),
    ...['-m', '256'],
    '-drive',
    `file=${disk},format=raw,cache=none,if=virtio,discard=unmap`,
  ];
  const qemu = spawn('qemu-system-x86_64', argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [qemu.stdout, qemu.stderr])
    stream.on('data', (bytes: Buffer) => {
      text += bytes.toString();
    });
  const timer = setTimeout(() => qemu.kill('SIGKILL'), bootTimeoutMs);
  await new Promise((resolve) => qemu.on('close', resolve));
  clearTimeout(timer);
  return { passed: text.includes(`WHARF-GUEST: PASS ${order}`), console: text };
}
