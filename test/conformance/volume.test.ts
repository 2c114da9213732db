import { limits } from '../../src/core/limits.ts';
import { VolumeWorld } from '../support/volume-world.ts';
import { dataObjectSuite } from './data-object.ts';

const open = (world: VolumeWorld) => async () => {
  const object = await world.create();
  return { object, [Symbol.asyncDispose]: () => object.close() };
};
const sizeMax = limits.volumeBytesMax;

dataObjectSuite('a volume', { open: () => open(new VolumeWorld())(), sizeMax });
dataObjectSuite('a volume that is destaged all the time', {
  open: () =>
    open(
      new VolumeWorld({
        cutBytes: 4096,
        destageDelayMs: 0,
        deltaBlocksMax: 1,
        checkpointDelayMs: 1,
      }),
    )(),
  sizeMax,
});
dataObjectSuite('a volume on a slow disk without a cache', {
  open: () => {
    const world = new VolumeWorld({ cutBytes: 8192, destageDelayMs: 0 });
    world.disk.faults.slowReads = true;
    world.isUncached = true;
    return open(world)();
  },
  sizeMax,
});
