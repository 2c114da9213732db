/** What people write, and names that tell what they are. */

import assert from 'node:assert/strict';
import { parseSettingsText } from '../../../src/daemon/settings-file.ts';
import { parseSize, parseTime, writeSize, writeTime } from '../../../src/daemon/units.ts';
import { isStorageError } from '../../../src/core/errors.ts';
import { epochOfKey } from '../../../src/file/manifest.ts';
import { copyBlobKey, parseCopyBlobKey } from '../../../src/format/registry-copy.ts';
import type { Target } from '../target.ts';

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text));
const messageCharactersMax = 1000;

const shortest = `host: node-1
vpool: vms
mount: /mnt/vms
data: /var/lib/wharf
registry: {sqlite: /var/lib/wharf/registry}
backend: {kind: dir, path: /srv/vms}
`;
const longer = `host: node-1
domain: rack-7
vpool: vms
mount: /mnt/vms
data: /var/lib/wharf
registry:
  etcd:
    endpoints: [http://10.0.0.1:2379, http://10.0.0.2:2379]
    user: wharf
backend:
  kind: s3
  endpoint: http://10.0.0.9:9000
  layout: prefix
peers:
  listen: 10.0.0.1:7000
  key: ${'0123456789abcdef'.repeat(4)}
lease: {time: 6s, margin: 1500ms}
files:
  volumeNames: ['*.raw']
volumes:
  journalFile: 64MiB
  journalMax: 1GiB
fuse:
  poll: 50us
`;

const settings: Target = {
  ...{ name: 'settings', kind: 'text', refuses: ['invalid'] },
  testInputs: 150,
  // The parser of YAML keeps what it was given, token by token.
  roomBytes: 8 << 20,
  samples: {
    shortest: bytesOf(shortest),
    longer: bytesOf(longer),
  },
  decode(input) {
    try {
      const found = parseSettingsText(Buffer.from(input).toString());
      assert.deepEqual(JSON.parse(JSON.stringify(found)), found, 'plain data');
      return true;
    } catch (error) {
      if (!isStorageError(error)) throw error;
      assert.ok(error.message.length <= messageCharactersMax && !error.message.includes('\n'));
      throw error;
    }
  },
};

const isClose = (left: number | undefined, right: number) =>
  left !== undefined && Math.abs(left - right) <= right * 1e-6;

const units: Target = {
  ...{ name: 'units', kind: 'text', refuses: [] },
  samples: Object.fromEntries(
    ['4096', '4MiB', '1.5 TiB', '250ms', '50us', '10min'].map((text) => [
      text.toLowerCase().replaceAll(/\W/g, '-'),
      bytesOf(text),
    ]),
  ),
  decode(input) {
    const text = Buffer.from(input).toString();
    const [bytes, ms] = [parseSize(text), parseTime(text)];
    for (const value of [bytes, ms]) assert.ok(value === undefined || value >= 0);
    if (Number.isSafeInteger(bytes)) assert.equal(parseSize(writeSize(bytes ?? 0)), bytes);
    if (ms !== undefined && ms >= 0.001 && ms < 1e12)
      assert.ok(isClose(parseTime(writeTime(ms)), ms));
    return bytes !== undefined || ms !== undefined;
  },
};

const names: Target = {
  ...{ name: 'names', kind: 'text', refuses: [] },
  samples: {
    base: bytesOf(copyBlobKey('base', 3, 9)),
    change: bytesOf(copyBlobKey('change', 0xffff_ffff, 1)),
    piece: bytesOf(`file/${'0123456789abcdef'.repeat(2)}/7-9-0`),
  },
  decode(input) {
    const text = Buffer.from(input).toString();
    const name = parseCopyBlobKey(text);
    if (name) assert.equal(copyBlobKey(name.kind, name.term, name.number), text);
    const epoch = epochOfKey(text);
    assert.ok(epoch === undefined || Number.isSafeInteger(epoch));
    return name !== undefined || epoch !== undefined;
  },
};

export const texts: readonly Target[] = [settings, units, names];
