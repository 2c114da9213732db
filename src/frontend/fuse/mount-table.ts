/** What /proc/self/mountinfo (proc_pid_mountinfo(5)) and fuse.conf say. Pure. */

export interface MountRecord {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
}

/** The kernel writes blanks, backslashes and newlines in octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** In the order of mounting: of several at one place, the last one is seen. */
export function parseMountInfo(text: string): MountRecord[] {
  return text
    .split('\n')
    .filter((line) => line.includes(' - '))
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ', 2);
      const [type = '', source = ''] = right.split(' ');
      const mountPoint = unescape(left.split(' ')[4] ?? '');
      return { mountPoint, type, source: unescape(source) };
    });
}

/** Whether users may let others see their mounts (fusermount3(1)). */
export function allowsOthers(fuseConf: string): boolean {
  return fuseConf.split('\n').some((line) => line.trim() === 'user_allow_other');
}

/** Options of mount(2) are parted by commas, which fusermount3 wants escaped. */
export function escapeOption(value: string): string {
  return value.replace(/[\\,]/g, '\\$&');
}
