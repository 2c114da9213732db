/** What `GET /metrics` answers: the text format of Prometheus (version 0.0.4). */

import type { BackendMetrics, OperationMetrics } from '../backend/with-metrics.ts';
import { backendOperations, latencyBoundsMs } from '../backend/with-metrics.ts';
import type { LoopDelay } from '../platform/loop-delay.ts';
import type { Stack } from './stack.ts';

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number, suffix?: string];

interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

const escape = (text: string) =>
  text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');

/** `name{label="value"} 1`, a line each, behind what the family is. */
export function renderMetrics(families: readonly Family[]): string {
  return families
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, type, help, samples }) => {
      const lines = samples.map(([labels, value, suffix = '']) => {
        const inside = Object.entries(labels).map(([key, text]) => `${key}="${escape(text)}"`);
        const braces = inside.length > 0 ? `{${inside.join(',')}}` : '';
        return `${name}${suffix}${braces} ${value}\n`;
      });
      return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
    })
    .join('');
}

const gauge = (name: string, help: string, value: number): Family => ({
  ...{ name, help, type: 'gauge' },
  samples: [[{}, value]],
});

const counter = (name: string, help: string, value: number): Family => ({
  ...{ name, help, type: 'counter' },
  samples: [[{}, value]],
});

function histogramOf(operation: string, { latency, totalMs, calls }: OperationMetrics): Sample[] {
  let below = 0;
  const buckets = latency.map((count, index): Sample => {
    below += count;
    const boundMs = latencyBoundsMs[index];
    const le = boundMs === undefined ? '+Inf' : String(boundMs / 1000);
    return [{ operation, le }, below, '_bucket'];
  });
  return [...buckets, [{ operation }, totalMs / 1000, '_sum'], [{ operation }, calls, '_count']];
}

function backendFamilies(metrics: BackendMetrics): Family[] {
  const each = backendOperations.map((operation) => [operation, metrics.of(operation)] as const);
  const used = each.filter(([, { calls, underWay }]) => calls + underWay > 0);
  return [
    {
      ...{ name: 'wharf_backend_request_seconds', type: 'histogram' },
      help: 'Requests to the object store by how long they took.',
      samples: used.flatMap(([operation, counts]) => histogramOf(operation, counts)),
    },
    {
      ...{ name: 'wharf_backend_bytes_total', type: 'counter' },
      help: 'Bytes of bodies that came through.',
      samples: used.map(([operation, { bytes }]) => [{ operation }, bytes]),
    },
    {
      ...{ name: 'wharf_backend_errors_total', type: 'counter' },
      help: 'Requests that failed, by reason.',
      samples: used.flatMap(([operation, { errors }]) =>
        Object.entries(errors).map(([code, count]): Sample => [{ operation, code }, count]),
      ),
    },
  ];
}

export function stackMetrics(
  stack: Stack,
  loopDelay: LoopDelay,
  requests: Readonly<Record<string, number>>,
): string {
  const { cache, copier, files, monitor, metrics, volumes } = stack;
  const open = volumes.statuses();
  const copy = copier.status();
  const memory = process.memoryUsage();
  const cached = cache.statistics();
  const states = ['open', 'failed'] as const;
  const quantiles = [0.5, 0.99, 0.999];
  return renderMetrics([
    gauge('wharf_resident_bytes', 'Memory of the daemon.', memory.rss),
    gauge('wharf_heap_bytes', "JavaScript's heap in use.", memory.heapUsed),
    gauge('wharf_buffer_bytes', 'Memory outside of the heap.', memory.external),
    {
      ...{ name: 'wharf_event_loop_delay_seconds', type: 'gauge' },
      help: 'How late the event loop is.',
      samples: quantiles.map((quantile) => [
        { quantile: String(quantile) },
        loopDelay.percentileMs(quantile) / 1000,
      ]),
    },
    {
      ...{ name: 'wharf_fuse_requests_total', type: 'counter' },
      help: 'Requests of the kernel, by what they ask.',
      samples: Object.entries(requests).map(([request, count]) => [{ request }, count]),
    },
    {
      ...{ name: 'wharf_volumes', type: 'gauge' },
      help: 'Volumes that this host serves, by state.',
      samples: states.map((state) => [
        { state },
        open.filter((volume) => volume.state === state).length,
      ]),
    },
    gauge(
      'wharf_not_destaged_bytes',
      'Bytes of volumes that are not on the object store yet.',
      open.reduce((sum, { notDestagedBytes }) => sum + notDestagedBytes, 0),
    ),
    gauge('wharf_map_pages', 'Pages of block maps in memory.', volumes.mapPages),
    gauge('wharf_dirty_file_bytes', 'Bytes of small files not written back.', files.dirtyBytes),
    counter('wharf_cache_hits_total', 'Reads that the SSD cache answered.', cached.hits),
    counter('wharf_cache_misses_total', 'Reads that it did not.', cached.misses),
    gauge('wharf_cache_bytes', 'Bytes in the SSD cache.', cached.cachedBytes),
    {
      ...{ name: 'wharf_registry_copy_age_seconds', type: 'gauge' },
      help: "How old the object store's copy of the registry is, by whether something changed since.",
      samples: copy ? [[{ behind: String(copy.isBehind ?? 'unknown') }, copy.ageMs / 1000]] : [],
    },
    gauge('wharf_backend_waiting_calls', 'Calls that wait for it.', monitor.outage?.waiting ?? 0),
    ...backendFamilies(metrics),
  ]);
}
