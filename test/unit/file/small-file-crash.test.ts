import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB, MiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { contentOf, FileWorld, namedKeys, until } from '../../support/file-world.ts';

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

describe('a crash of the host of a small file', () => {
  /** Old content, new content, and the change from one to the other, over several pieces. */
  const oldContent = filled(3 * MiB + 100, 1);
  const newContent = filled(4 * MiB, 2);

  test('leaves the old or the new content, whole, at whatever step it comes', async () => {
    const outcomes = new Set<string>();
    for (let dying = 1, isOver = false; !isOver; dying += 1)
      for (const how of ['before', 'after'] as const) {
        const world = new FileWorld();
        const { file, tenure } = await world.open();
        await file.write(0, oldContent);
        await file.flush();
        let steps = 0;
        const step = () => {
          steps += 1;
          if (steps < dying) return 'none';
          return steps === dying ? how : 'before';
        };
        world.faults.choose = step;
        world.chooseForHead = step;
        await file.write(0, newContent);
        const flushed = await file.flush().then(
          () => true,
          () => false,
        );
        isOver = steps < dying;
        world.kill();
        tenure.end();
        await file.abandon();
        const { file: again } = await world.open();
        const content = await contentOf(again);
        const isOld = Buffer.compare(content, oldContent) === 0;
        const isNew = Buffer.compare(content, newContent) === 0;
        assert.ok(isOld || isNew, `step ${dying} ${how}`);
        assert.ok(isNew || !flushed, `step ${dying} ${how}: flushed content is lost`);
        outcomes.add(isOld ? 'old' : 'new');
        // Nothing that is not named lies about once the file was opened.
        await world.driver.drained();
        assert.deepEqual(
          [...world.blobs.keys()].sort(),
          await namedKeys(world),
          `step ${dying} ${how}`,
        );
        await again.close();
      }
    assert.deepEqual([...outcomes].sort(), ['new', 'old']);
  });

  test('never shows a part of a write, however little memory there is', async () => {
    const seed = Number(process.env['WHARF_SEED'] ?? Math.floor(Math.random() * 1e6));
    const random = seededRandom(seed);
    for (let round = 0; round < 20; round += 1) {
      const world = new FileWorld({ dirtyBytesMax: 2 * MiB, writeBackDelayMs: 1 });
      const { file, tenure } = await world.open();
      const dying = 1 + Math.floor(random.fraction() * 25);
      let steps = 0;
      const step = () => (++steps >= dying ? 'before' : 'none');
      world.faults.choose = step;
      world.chooseForHead = step;
      // Each write covers the end of one piece and the start of the next with its number.
      const length = 64 * KiB;
      const at = MiB - length / 2;
      const writing = (async () => {
        for (let value = 1; value <= 30; value += 1) {
          await file.write(at, filled(length, value));
          await file.write(3 * MiB + value, filled(MiB, value));
          if (random.fraction() < 0.3) await file.flush();
        }
      })().catch(() => {});
      await Promise.race([writing, until(() => steps >= dying)]);
      world.kill();
      tenure.end();
      await Promise.all([file.abandon(), writing]);
      const { file: again } = await world.open();
      const found = new Uint8Array(length);
      const bytes = await again.read(at, found);
      assert.ok(bytes === 0 || bytes === length, `seed ${seed}`);
      assert.ok(
        found.every((byte) => byte === found[0]),
        `seed ${seed} round ${round}: half of a write`,
      );
      await again.abandon();
    }
  });
});
