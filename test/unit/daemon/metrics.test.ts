import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderMetrics } from '../../../src/daemon/metrics.ts';
import { measureLoopDelay } from '../../../src/platform/loop-delay.ts';

test('metrics are written as Prometheus reads them', () => {
  const text = renderMetrics([
    {
      ...{ name: 'wharf_errors_total', type: 'counter', help: 'Failed.' },
      samples: [
        [{ code: 'a "b"\\\n' }, 3],
        [{}, 1, '_sum'],
      ],
    },
    { name: 'wharf_nothing', type: 'gauge', help: 'Has no sample.', samples: [] },
  ]);
  assert.equal(
    text,
    '# HELP wharf_errors_total Failed.\n# TYPE wharf_errors_total counter\n' +
      'wharf_errors_total{code="a \\"b\\"\\\\\\n"} 3\nwharf_errors_total_sum 1\n',
  );
});

test('a loop that was busy is seen to be late, once', async () => {
  const delay = measureLoopDelay();
  const aWhile = () => new Promise((resolve) => setTimeout(resolve, 60));
  await aWhile();
  delay.takeMaxMs();
  await aWhile();
  const until = performance.now() + 200;
  while (performance.now() < until);
  await aWhile();
  assert.ok(delay.takeMaxMs() >= 100);
  assert.ok(delay.percentileMs(1) >= 100);
  delay.close();
});
