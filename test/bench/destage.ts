/**
 * What goes to the object store and comes from it: destaging, and reading with nothing cached, beside
 * a bare loop over the client library with as many requests at once, and s3backer. All use one server.
 */

import { MiB } from '../../src/core/units.ts';
import type { Entrant } from './compare.ts';
import { Field, subject } from './compare.ts';
import { S3backer, s3backerMissing } from './contenders/rivals.ts';
import { Wharf } from './contenders/wharf.ts';
import type { Effort } from './effort.ts';
import { fill, readSome, readThrough } from './fio.ts';
import { interleave } from './interleave.ts';
import type { ObjectStore } from './object-store.ts';
import { withObjectStore } from './object-store.ts';
import type { Report } from './report.ts';

const diskBytes = 96 * MiB;
const segmentBytes = 4 * MiB;
const uploadBytes = 32 * MiB;
/** As many segments as may be on their way at once. */
const requestsAtOnce = uploadBytes / segmentBytes;
const objects = diskBytes / segmentBytes;
const bareBucket = 'bench-bare';
/** Of a reader of the whole disk. */
const readsAtOnce = 8;
const coldReads = 60;
const block = 4096;

/** All that was written goes at once, when it is asked for. */
const volumes = {
  segment: `${segmentBytes / MiB}MiB`,
  uploadMax: `${uploadBytes / MiB}MiB`,
  ...{ cut: '1GiB', destageDelay: '1h', journalMax: '3GiB' },
} as const;

export function destage(report: Report, effort: Effort): Promise<void> {
  return withObjectStore(report, async (store) => {
    await store.makeBucket(bareBucket);
    const s3backer: Entrant = {
      ...{ name: 's3backer', missing: s3backerMissing },
      start: (place) => S3backer.start(place, store, 'bench-s3backer'),
    };
    const wharf: Entrant = {
      name: subject,
      start: (place) => Wharf.start(place, { backend: store.backend, volumes }),
    };
    await using field = await Field.start([wharf, s3backer], { diskBytes }, report);
    await destaging(report, effort, store, field);
    await readingAll(report, effort, store, field);
    await readingSome(report, effort, store, field);
  });
}

async function destaging(
  report: Report,
  { rounds }: Effort,
  store: ObjectStore,
  field: Field,
): Promise<void> {
  const wharf = field.get(subject) as Wharf;
  const body = Buffer.alloc(segmentBytes, 1);
  const bare: number[] = [];
  const orders = [
    { order: 'in order', rates: [] as number[], sent: [] as number[], sentMax: 1.05 },
    { order: 'at random', rates: [] as number[], sent: [] as number[], sentMax: 1.2 },
  ] as const;
  await interleave(['bare' as const, ...orders], rounds, async (part) => {
    if (part === 'bare') {
      bare.push(await store.putAll(bareBucket, body, objects, requestsAtOnce));
      return;
    }
    await wharf.renewDisk();
    await fill(wharf.disk, diskBytes, part.order);
    const before = await sentBytes(wharf);
    const began = performance.now();
    await wharf.settle();
    const seconds = (performance.now() - began) / 1000;
    const bytes = (await sentBytes(wharf)) - before;
    part.rates.push(bytes / seconds);
    part.sent.push(bytes);
  });
  report.title(`destaging ${diskBytes / MiB} MiB, ${requestsAtOnce} requests at once`);
  report.line('bare loop of PUTs, MiB/s', bare.map(inMiB));
  for (const { order, rates, sent, sentMax } of orders) {
    report.line(`written ${order}, MiB/s`, rates.map(inMiB));
    report.ratio(`written ${order} / bare loop`, rates, bare, { is: 'at least', value: 0.8 });
    const written = sent.map(() => diskBytes);
    const most = { is: 'at most', value: sentMax } as const;
    report.ratio(`bytes sent / bytes written ${order}`, sent, written, most);
  }
}

async function sentBytes(wharf: Wharf): Promise<number> {
  return (await wharf.metrics())('wharf_backend_bytes_total', 'operation="put"');
}

async function readingAll(
  report: Report,
  { rounds }: Effort,
  store: ObjectStore,
  field: Field,
): Promise<void> {
  const [wharf, s3backer] = both(field);
  const rates = { wharf: [] as number[], s3backer: [] as number[], bare: [] as number[] };
  await interleave(['wharf', 's3backer', 'bare'] as const, rounds, async (part) => {
    if (part === 'bare') rates.bare.push(await store.getAll(bareBucket, objects, requestsAtOnce));
    const contender = part === 'wharf' ? wharf : part === 's3backer' ? s3backer : undefined;
    if (!contender) return;
    await contender.restartEmptied();
    rates[part].push(await readThrough(contender.disk, diskBytes, readsAtOnce));
  });
  report.title(`cold sequential read of ${diskBytes / MiB} MiB`);
  report.line(`bare loop of GETs, ${requestsAtOnce} at once, MiB/s`, rates.bare.map(inMiB));
  report.line(`wharf, QD${readsAtOnce}, MiB/s`, rates.wharf.map(inMiB));
  report.ratio('wharf / bare loop', rates.wharf, rates.bare, { is: 'at least', value: 0.8 });
  if (!s3backer) return;
  report.line(`s3backer, QD${readsAtOnce}, MiB/s`, rates.s3backer.map(inMiB));
  report.ratio('wharf / s3backer', rates.wharf, rates.s3backer, { is: 'at least', value: 2 });
}

async function readingSome(
  report: Report,
  { rounds }: Effort,
  store: ObjectStore,
  field: Field,
): Promise<void> {
  const [wharf, s3backer] = both(field);
  const us = { wharf: [] as number[], s3backer: [] as number[], bare: [] as number[] };
  await interleave(['wharf', 's3backer', 'bare'] as const, rounds, async (part) => {
    if (part === 'bare') us.bare.push(await store.rangeUs(bareBucket, objects, coldReads, block));
    const contender = part === 'wharf' ? wharf : part === 's3backer' ? s3backer : undefined;
    if (!contender) return;
    await contender.restartEmptied();
    const { latencyUs } = await readSome(contender.disk, diskBytes, coldReads);
    us[part].push(latencyUs.median);
  });
  report.title(`cold 4 KiB random read, QD1: median of ${coldReads}`);
  report.line('bare GET of a range, us', us.bare);
  report.line('wharf, us', us.wharf);
  report.ratio('wharf / bare GET', us.wharf, us.bare, { is: 'at most', value: 1.3 });
  if (!s3backer) return;
  report.line('s3backer, us', us.s3backer);
  report.ratio('wharf / s3backer', us.wharf, us.s3backer, { is: 'at most', value: 1 });
}

function both(field: Field): [Wharf, S3backer | undefined] {
  return [field.get(subject) as Wharf, field.get('s3backer') as S3backer | undefined];
}

const inMiB = (bytes: number) => bytes / MiB;
