/** What the bench makes of its samples. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { resultOf } from '../../bench/fio.ts';
import { interleave } from '../../bench/interleave.ts';
import { parseMetrics } from '../../bench/metrics.ts';
import { percentile, ratiosOf, Report, verdictOf } from '../../bench/report.ts';

const quietReport = () => new Report(() => {});

describe('samples', () => {
  test('have percentiles in any order', () => {
    const samples = [5, 1, 4, 2, 3];
    assert.equal(percentile(samples, 0), 1);
    assert.equal(percentile(samples, 0.5), 3);
    assert.equal(percentile(samples, 0.99), 5);
    assert.equal(percentile(samples, 1), 5);
    assert.ok(Number.isNaN(percentile([], 0.5)));
    assert.deepEqual(samples, [5, 1, 4, 2, 3]);
  });

  test('are divided round by round, not by their medians', () => {
    // The machine was ten times slower in the second round.
    assert.deepEqual(ratiosOf([100, 10, 100], [50, 5, 50]), [2, 2, 2]);
    assert.ok(Number.isNaN(ratiosOf([1, 2], [1])[1]));
  });

  test('are taken in turns, every other round backwards', async () => {
    const taken: string[] = [];
    await interleave(['a', 'b', 'c'], 3, async (part, round) => {
      await Promise.resolve();
      taken.push(`${part}${round}`);
    });
    assert.equal(taken.join(' '), 'a0 b0 c0 c1 b1 a1 a2 b2 c2');
  });

  test('that could not be taken meet no target', () => {
    const report = quietReport();
    report.line('none', [], { is: 'at least', value: 1 });
    report.line('none', [Number.NaN], { is: 'at most', value: 1 });
    assert.deepEqual(report.figures.map(verdictOf), ['MISSED', 'MISSED']);
  });
});

describe('a figure', () => {
  test('is judged by its median, or by its 99th of a hundred', () => {
    const report = quietReport();
    report.line('median', [1, 1, 9], { is: 'at most', value: 1 });
    report.line('p99', [1, 1, 9], { is: 'at most', value: 1, of: 'p99' });
    report.line('shown', [1, 1, 9], { is: 'at most' });
    report.line('plain', [1, 1, 9]);
    assert.deepEqual(report.figures.map(verdictOf), ['met', 'MISSED', undefined, undefined]);
  });

  test('is kept with the bench and the title above it', () => {
    const report = quietReport();
    report.bench('one');
    report.title('reads');
    report.ratio('us / them', [4, 6], [2, 2], { is: 'at least', value: 2 });
    report.note('they are not here');
    assert.deepEqual(report.figures, [
      {
        ...{ bench: 'one', title: 'reads', name: 'us / them', samples: [2, 3], isRatio: true },
        target: { is: 'at least', value: 2 },
      },
    ]);
    assert.deepEqual(report.notes, ['one: they are not here']);
  });
});

describe('what is read', () => {
  test('of fio: both directions, behind its warnings', () => {
    const direction = (iops: number, us: number) => ({
      ...{ iops, bw_bytes: iops * 4096, total_ios: iops },
      lat_ns: { percentile: { '50.000000': us * 1000, '99.900000': us * 9000 } },
    });
    const jobs = [{ read: direction(700, 10), write: direction(300, 20) }];
    assert.deepEqual(resultOf(`fio: a warning\n${JSON.stringify({ jobs })}`), {
      ...{ perSecond: 1000, bytesPerSecond: 4_096_000 },
      latencyUs: { median: 10, p999: 90 },
    });
    const writes = [{ read: { ...direction(0, 0), lat_ns: {} }, write: direction(300, 20) }];
    assert.equal(resultOf(JSON.stringify({ jobs: writes })).latencyUs.median, 20);
  });

  test('of metrics: the sum of the samples that have the label', () => {
    const metrics = parseMetrics(
      '# HELP a_total words\na_total{of="x",by="y"} 2\na_total{of="z"} 3e2\nb 5\na_total_more 7\n',
    );
    assert.equal(metrics('a_total', 'of="x"'), 2);
    assert.equal(metrics('a_total'), 302);
    assert.equal(metrics('b'), 5);
    assert.equal(metrics('none'), 0);
  });
});
