import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { nearest } from '../../../src/daemon/nearest.ts';
import { parseSettings } from '../../../src/daemon/settings.ts';
import { parseSize, parseTime, writeSize, writeTime } from '../../../src/daemon/units.ts';

const example = readFileSync(join(import.meta.dirname, '../../../config/wharf.yaml'), 'utf8');
const minimal = {
  host: 'a',
  vpool: 'demo',
  mount: '/m',
  data: '/d',
  registry: { sqlite: '/r' },
  backend: { kind: 'dir', path: '/s' },
};
const onS3 = { ...minimal, backend: { kind: 's3', endpoint: 'http://127.0.0.1:9000' } };

function complaint(input: unknown): string {
  try {
    parseSettings(input);
  } catch (error) {
    const { message } = error as Error;
    assert.ok(!message.includes('\n'), message);
    return message;
  }
  assert.fail(`accepted: ${JSON.stringify(input)}`);
}

/** Paths of all settings, lists counted as one. */
function keysOf(value: object, before: readonly string[] = []): string[][] {
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    const path = [...before, key];
    const isGroup = typeof inner === 'object' && inner !== null && !Array.isArray(inner);
    return isGroup ? keysOf(inner, path) : [path];
  });
}

function withChange(input: object, [key = '', ...rest]: readonly string[], value: unknown): object {
  const inner = (input as Record<string, object>)[key] ?? {};
  return { ...input, [key]: rest.length === 0 ? value : withChange(inner, rest, value) };
}

describe('settings', () => {
  test('of the example are the defaults', () => {
    const fromExample = parseSettings(parse(example));
    const { mount, data, registry } = fromExample;
    const backend = { kind: 'dir', path: '/mnt/store/demo' };
    assert.deepEqual(
      fromExample,
      parseSettings({ ...minimal, mount, data, registry, backend }),
      'config/wharf.yaml differs from the defaults',
    );
  });

  test('all stand in the example, those of s3 as comments', () => {
    const written = example.replaceAll(/^ {2}# (\w+:)/gm, '  $1');
    for (const input of [minimal, onS3])
      for (const path of keysOf(parseSettings(input)))
        assert.match(written, new RegExp(`^ *${path.at(-1)}:`, 'm'), path.join('.'));
  });

  for (const input of [minimal, onS3])
    for (const path of keysOf(parseSettings(input))) {
      const key = path.join('.');
      const { kind } = input.backend;
      test(`are refused where ${key} is wrong (${kind})`, () => {
        for (const value of [{}, true, -1, [[]], '\0']) {
          const line = complaint(withChange(input, path, value));
          assert.ok(line.startsWith(key), line);
          assert.match(line, /: found .+; allowed is .+/);
        }
        const typo = [...path.slice(0, -1), `${path.at(-1)}x`];
        const line = complaint(withChange(input, typo, 1));
        assert.equal(line, `${key}x: no such setting; the nearest is ${key}`);
      });
    }

  for (const key of ['host', 'vpool', 'mount', 'data', 'registry', 'backend'])
    test(`are refused without ${key}`, () => {
      const { [key]: _left, ...rest } = minimal as Record<string, unknown>;
      assert.match(complaint(rest), new RegExp(`^${key}: found nothing; allowed is `));
    });

  for (const [change, line] of [
    [
      { host: 'A b' },
      'host: found "A b"; allowed is a name of lower-case letters, digits and dashes, at most 20, the first one a letter',
    ],
    [{ mount: 'relative' }, 'mount: found "relative"; allowed is an absolute path'],
    [
      { lease: { time: '2s', margin: '1500ms' } },
      'lease.margin: found "1500ms"; allowed is half of lease.time at most',
    ],
    [
      { registry: { etcd: { endpoints: ['http://e:1'], usr: 'x' } } },
      'registry.etcd.usr: no such setting; the nearest is registry.etcd.user',
    ],
    [
      { registry: { etcd: { endpoints: ['http://e:1'], tls: { cert: '/c' } } } },
      'registry.etcd.tls.ca: found nothing; allowed is an absolute path',
    ],
    [{ peers: { kee: '' } }, 'peers.kee: no such setting; the nearest is peers.key'],
    [{ segment: '4MiB' }, 'segment: no such setting; the nearest is volumes.segment'],
    [
      { colour: 1 },
      'colour: no such setting; there are host, domain, vpool, mount, data, registry, backend, admin, peers, lease, registryCopy, replica, handover, files, volumes, cache, fuse',
    ],
    [
      { backend: { ...minimal.backend, endpoint: 'http://e' } },
      'backend.endpoint: no such setting with this backend.kind',
    ],
    [
      { volumes: { segment: '5000' } },
      'volumes.segment: found "5000"; allowed is a size from 64KiB to 64MiB, a multiple of 4KiB, as 4096, 64KiB or 4MiB',
    ],
    [
      { volumes: { destageDelay: 'soon' } },
      'volumes.destageDelay: found "soon"; allowed is a time from 0s to 24h, as 250ms or 5s',
    ],
    [
      { fuse: { requestsMax: 0 } },
      'fuse.requestsMax: found 0; allowed is a whole number from 8 to 1024',
    ],
    [
      { backend: { kind: 'tape' } },
      'backend.kind: found "tape"; allowed is a group of settings with kind dir or s3',
    ],
    [
      { backend: { kind: 's3', endpoint: 'ftp://h' } },
      'backend.endpoint: found "ftp://h"; allowed is a URL that starts with http:// or https://',
    ],
    [
      { data: '/m/data' },
      'data: found "/m/data"; allowed is a place outside of mount, which is /m',
    ],
    [
      { volumes: { journalFile: '512MiB', journalMax: '1000MiB' } },
      'volumes.journalMax: found "1000MiB"; allowed is twice volumes.journalFile or more, 1GiB',
    ],
    [
      { host: 'x'.repeat(500) },
      `host: found "${'x'.repeat(59)}...; allowed is a name of lower-case letters, digits and dashes, at most 20, the first one a letter`,
    ],
  ] as const)
    test(`that are wrong are told in one line: ${line.slice(0, 60)}`, () => {
      assert.equal(complaint({ ...minimal, ...change }), line);
    });

  test('of nothing at all, or of something else, are refused in one line', () => {
    for (const input of [undefined, null, 'text', [], 7]) assert.match(complaint(input), /found/);
  });

  test('give paths without what does not belong to them', () => {
    assert.equal(parseSettings({ ...minimal, mount: '/a/../m/' }).mount, '/m');
    assert.equal(parseSettings({ ...minimal, data: '/mm' }).data, '/mm');
  });
});

describe('sizes and times', () => {
  test('are read with their unit, and written so that they are read as the same', () => {
    for (const [text, bytes] of [
      ['4096', 4096],
      ['64KiB', 65_536],
      ['1.5 MiB', 1_572_864],
      ['2G', 2 ** 31],
      ['64TiB', 64 * 2 ** 40],
    ] as const) {
      assert.equal(parseSize(text), bytes);
      assert.equal(parseSize(writeSize(bytes)), bytes);
    }
    for (const [text, ms] of [
      ['50us', 0.05],
      ['250ms', 250],
      ['5s', 5000],
      ['2min', 120_000],
      ['24h', 86_400_000],
    ] as const) {
      assert.equal(parseTime(text), ms);
      assert.equal(parseTime(writeTime(ms)), ms);
    }
  });

  test('are nothing where the unit is missing, unknown or alone', () => {
    for (const text of ['', 'MiB', '4mib', '4 parsecs', '-1MiB', '1e3', '0x10', '4MiB.'])
      assert.equal(parseSize(text), undefined, text);
    for (const text of ['', '5', 's', '5 S', '-5s', '5s5'])
      assert.equal(parseTime(text), undefined, text);
  });
});

describe('the nearest name', () => {
  test('is the one with the fewest mistakes, and none where all are far', () => {
    const known = ['segment', 'cut', 'readAhead'];
    assert.equal(nearest('segmnt', known), 'segment');
    assert.equal(nearest('readahead', known), 'readAhead');
    assert.equal(nearest('cot', known), 'cut');
    assert.equal(nearest('colour', known), undefined);
    assert.equal(nearest('x', []), undefined);
  });
});
