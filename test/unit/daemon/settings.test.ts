import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { parseSettings } from '../../../src/daemon/settings.ts';

const example = readFileSync(join(import.meta.dirname, '../../../config/wharf.yaml'), 'utf8');
const minimal = {
  host: 'a',
  vpool: 'demo',
  mount: '/m',
  data: '/d',
  registry: { sqlite: '/r' },
  backend: { kind: 'dir', path: '/s' },
};

describe('settings', () => {
  test('of the example are the defaults', () => {
    const fromExample = parseSettings(parse(example));
    const { mount, data, registry, backend } = fromExample;
    const defaults = parseSettings({
      ...minimal,
      mount,
      data,
      registry,
      backend: { kind: 'dir', path: '/mnt/store/demo' },
    });
    assert.deepEqual(fromExample, defaults);
    assert.equal(backend.requestsMax, 64);
  });

  for (const [change, line] of [
    [{ host: 'A b' }, 'host: found "A b"; allowed is letters, digits and dashes, at most 20'],
    [{ mount: 'relative' }, 'mount: found "relative"; allowed is an absolute path'],
    [{ mount: undefined }, 'mount: found nothing; allowed is a string'],
    [{ colour: 1 }, 'colour: no such setting'],
    [{ volumes: { segmnt: '4MiB' } }, 'volumes.segmnt: no such setting'],
    [
      { volumes: { segment: '5000' } },
      'volumes.segment: found "5000"; allowed is a size from 65536',
    ],
    [
      { volumes: { destageDelay: 'soon' } },
      'volumes.destageDelay: found "soon"; allowed is a time as 250ms or 5s',
    ],
    [{ fuse: { requestsMax: 0 } }, 'fuse.requestsMax: found 0; allowed is 8 or more'],
    [{ backend: { kind: 'tape' } }, 'backend.kind: found'],
    [{ backend: { kind: 's3', endpoint: 'nowhere' } }, 'backend.endpoint: found "nowhere"'],
  ] as const)
    test(`that are wrong are told in one line: ${line}`, () => {
      assert.throws(
        () => parseSettings({ ...minimal, ...change }),
        (error: Error) => error.message.startsWith(line) && !error.message.includes('\n'),
      );
    });
});
