/** Bugs in what a volume is made of: destaging, the block map, space, snapshots, the cache. */

import type { Mutant } from './mutant.ts';

export const volumeMutants: readonly Mutant[] = [
  {
    name: 'flush-before-sync',
    breaks: 'a flush is acknowledged before the fdatasync has ended',
    changes: [
      {
        file: 'volume/volume.ts',
        find: 'await Promise.all([journal.sync(), replicator.durable(journal.lastSequence)]);',
        put: 'journal.sync().catch(() => {});\n    await replicator.durable(journal.lastSequence);',
      },
    ],
  },
  {
    name: 'leave-too-early',
    breaks: 'a volume that is let go is recorded as being on the backend before it is',
    changes: [
      { file: 'volume/volume.ts', find: ' && this.#isOnBackend() && (await', put: ' && (await' },
    ],
  },
  {
    name: 'trim-journal-early',
    breaks: 'the journal is trimmed before the head is committed',
    changes: [
      {
        file: 'volume/destager.ts',
        find: '    await written.stored;\n',
        put: '    journal.trim(cut.journalSequence);\n    await written.stored;\n',
      },
    ],
  },
  {
    name: 'head-before-segments',
    breaks: 'a head is committed before its segments are stored',
    changes: [{ file: 'volume/destager.ts', find: 'await written.stored;', put: '' }],
  },
  {
    name: 'commits-overtake',
    breaks: 'a cut is committed before the one that it follows',
    changes: [{ file: 'volume/destager.ts', find: '    await before;\n', put: '' }],
  },
  {
    name: 'snapshot-without-cut',
    breaks: 'a snapshot is committed without the cut that belongs to it',
    changes: [
      {
        file: 'volume/destager.ts',
        find: 'const cut = this.#freeze();\n    const committed',
        put: 'const cut = undefined as Cut | undefined;\n    const committed',
      },
    ],
  },
  {
    name: 'tail-forgotten',
    breaks: 'a checkpoint forgets the cuts that were committed while it ran',
    changes: [
      {
        file: 'volume/checkpointer.ts',
        find: 'tail: now.tail.slice(covered.length),',
        put: 'tail: [],',
      },
    ],
  },
  {
    name: 'collect-while-read',
    breaks: 'dead segments are deleted while reads of them are under way',
    changes: [
      {
        file: 'volume/checkpointer.ts',
        find: 'await this.#deps.readsSettled();',
        put: '',
      },
    ],
  },
  {
    name: 'collect-snapshots',
    breaks: 'garbage collection ignores snapshots',
    changes: [
      {
        file: 'volume/segment-usage.ts',
        find: 'if (next === undefined || next >= death) names.push',
        put: 'if (next !== -1) names.push',
      },
    ],
  },
  {
    name: 'live-bytes-leak',
    breaks: 'what is overwritten counts as live for ever',
    changes: [
      {
        file: 'volume/checkpoint.ts',
        find: 'this.#blocksGained += 1;\n      else usage.remove(words, at);',
        put: 'this.#blocksGained += 1;',
      },
    ],
  },
  {
    name: 'compaction-over-newer',
    breaks: 'compaction moves a place that was overwritten meanwhile',
    changes: [
      {
        file: 'volume/checkpoint.ts',
        find: 'if (samePlace(old, 0, words, at)) {',
        put: 'if (words.length > 0) {',
      },
      {
        file: 'volume/compactor.ts',
        find: "return where === 'data' && samePlace(here, 0, found, 0);",
        put: "return where === 'data';",
      },
    ],
  },
  {
    name: 'trim-keeps-rows',
    breaks: 'a trim does not beat an older row of its generation',
    changes: [
      {
        file: 'volume/block-overlay.ts',
        find: 'if (row !== noRow) this.#words.fill(0,',
        put: 'if (row < noRow) this.#words.fill(0,',
      },
    ],
  },
  {
    name: 'trim-after-blocks',
    breaks: "a cut's trims take effect behind its blocks",
    changes: [
      {
        file: 'volume/block-map.ts',
        find: `    this.applyTrims(overlay.trims);
    this.#delta.growth += overlay.growth;
    rows.forEach((row, index) => {
      this.#delta.put(overlay.blockOfRow(row), places, index * placeWords);
    });`,
        put: `    this.#delta.growth += overlay.growth;
    rows.forEach((row, index) => {
      this.#delta.put(overlay.blockOfRow(row), places, index * placeWords);
    });
    this.applyTrims(overlay.trims);`,
      },
    ],
  },
  {
    name: 'recovery-without-trims',
    breaks: 'recovery forgets the trims of segments',
    changes: [
      {
        file: 'volume/recovery.ts',
        find: '  map.applyTrims(header.trims.map(({ block, count }) => [block, block + count] as const));\n',
        put: '',
      },
    ],
  },
  {
    name: 'origin-not-shifted',
    breaks: "what a clone's tail holds of its parent is looked for in the clone",
    changes: [{ file: 'volume/recovery.ts', find: 'setOrigin(place, 0, origin);', put: '' }],
  },
  {
    name: 'merge-of-old-block',
    breaks: 'a write of a part of a block does not look whether the rest has changed meanwhile',
    changes: [
      {
        file: 'volume/block-writer.ts',
        find: 'if (!edges.every((edge) => this.#isWhere(edge))) continue;',
        put: '',
      },
    ],
  },
  {
    name: 'changed-page-dropped',
    breaks: 'a changed page of the map leaves memory before it is written',
    changes: [{ file: 'volume/page-budget.ts', find: 'page.dirty || ', put: '' }],
  },
  {
    name: 'rollback-keeps-newer',
    breaks: 'a rollback keeps places that are newer than the snapshot',
    changes: [
      {
        file: 'volume/rollback.ts',
        find: 'const next = { ...kept, epoch,',
        put: 'const next = { ...kept, root: head.root, rootLevel: head.rootLevel, epoch,',
      },
    ],
  },
  {
    name: 'segment-without-epoch',
    breaks: 'the name of a segment does not say its epoch',
    changes: [
      {
        file: 'format/segment-key.ts',
        find: '${hex(epoch)}/${hex(sequence)}',
        put: '${hex(0)}/${hex(sequence)}',
      },
    ],
  },
  {
    name: 'checksum-unchecked',
    breaks: 'what comes from the cache is not held against its checksum',
    changes: [
      {
        file: 'cache/chunk-verifier.ts',
        find: 'if (this.#found[index] !== checksums[firstChecksum + index]) return index;',
        put: 'if (checksums.length === 0) return firstChecksum;',
      },
    ],
  },
  {
    name: 'journal-unverified',
    breaks: 'what is read from the journal is not held against its checksum',
    changes: [
      {
        file: 'volume/block-reader.ts',
        find: 'if (found[index] !== checksums[index] || bytes !== area.length)',
        put: 'if (bytes !== area.length)',
      },
    ],
  },
  {
    name: 'damage-sealed-in',
    breaks: 'a block that is damaged in the journal gets a new checksum on its way to a segment',
    changes: [
      {
        file: 'volume/cut-writer.ts',
        find: 'const expected = places[(index + block) * placeWords + placeWord.checksum] as number;',
        put: `const expected = found[block];
    places[(index + block) * placeWords + placeWord.checksum] = found[block] as number;`,
      },
    ],
  },
  {
    name: 'clone-loses-snapshot',
    breaks: 'a snapshot is deleted while a clone reads from it',
    changes: [
      {
        file: 'registry/snapshot-records.ts',
        find: 'if (clones.length > 0)\n',
        put: 'if (clones.length < 0)\n',
      },
    ],
  },
];
