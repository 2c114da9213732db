/** Bugs in journals and their copies. */

import type { Mutant } from './mutant.ts';

export const journalMutants: readonly Mutant[] = [
  {
    name: 'torn-end-believed',
    breaks: 'the torn end of a journal is taken for whole',
    changes: [
      {
        file: 'log/journal-recovery.ts',
        find: 'const isWhole = record.isPayloadWhole || sequence <= durable;',
        put: 'const isWhole = true;',
      },
    ],
  },
  {
    name: 'recovered-unsynced',
    breaks: 'what is recovered from a page cache counts as durable',
    changes: [{ file: 'log/journal.ts', find: '    await this.#syncFiles();\n', put: '' }],
  },
  {
    name: 'promise-beyond-copy',
    breaks: 'records promise as durable what the copy has not synced',
    changes: [
      {
        file: 'log/journal.ts',
        find: 'Math.min(this.#durableSequence, this.#promiseMax)',
        put: 'this.#durableSequence',
      },
    ],
  },
  {
    name: 'written-before-copy',
    breaks: 'a write is acknowledged before the copy has it',
    changes: [
      {
        file: 'log/replicator.ts',
        find: 'return needed[what] >= sequence;',
        put: "return what === 'appended' || needed.durable >= sequence;",
      },
    ],
  },
  {
    name: 'durable-before-copy',
    breaks: 'a flush is acknowledged when the copy has it, but not durably',
    changes: [
      {
        file: 'log/replicator.ts',
        find: 'return needed[what] >= sequence;',
        put: 'return needed.appended >= sequence;',
      },
    ],
  },
  {
    name: 'degraded-unrecorded',
    breaks: 'that there is no copy any more is not recorded',
    changes: [
      {
        file: 'log/replicator.ts',
        find: "if (this.#recorded !== 'owner') await this.#record('owner');",
        put: "if (this.#recorded === 'backend') await this.#record('owner');",
      },
    ],
  },
  {
    name: 'copy-named-early',
    breaks: 'the registry names a copy that has not caught up',
    changes: [
      {
        file: 'log/replicator.ts',
        find: `      await this.#reached(session, journal.lastSequence);
      await session.sync();
      await this.#record(session.copy);`,
        put: `      await this.#record(session.copy);
      await this.#reached(session, journal.lastSequence);
      await session.sync();`,
      },
      {
        file: 'log/replicator.ts',
        find: `      for (let round = 0; round < catchUpRounds; round += 1)
        await this.#reached(session, journal.lastSequence);
`,
        put: '',
      },
    ],
  },
  {
    name: 'copy-trimmed-early',
    breaks: 'a copy gives up records before they are on the backend',
    changes: [
      {
        file: 'log/replica-session.ts',
        find: 'const trimmed = this.#deps.committedSequence();',
        put: 'const trimmed = this.#deps.journal.lastSequence;',
      },
    ],
  },
  {
    name: 'copy-unsynced',
    breaks: 'a copy is not synced at a flush',
    changes: [
      {
        file: 'log/replica-server.ts',
        find: 'kind === peerKind.replicaSync) await store.sync();',
        put: 'kind === peerKind.replicaSync) return;',
      },
    ],
  },
  {
    name: 'sealed-copy-grows',
    breaks: 'a sealed copy goes on taking records',
    changes: [
      {
        file: 'log/replica-server.ts',
        find: 'this.#sessions.delete(id);\n    await session.store.close();',
        put: '',
      },
    ],
  },
  {
    name: 'old-journal-adopted',
    breaks: 'a journal of a tenure that is over is taken for the tail',
    changes: [
      {
        file: 'volume/tail-transfer.ts',
        find: 'await this.discard(id);\n      return undefined;\n    }\n    const copy',
        put: 'return undefined;\n    }\n    const copy',
      },
    ],
  },
  {
    name: 'tail-not-shipped',
    breaks: 'a handover does not ship the tail of the journal',
    changes: [
      {
        file: 'router/moves/handover.ts',
        find: 'if (payload.length === 0) return;',
        put: 'if (payload.length >= 0) return;',
      },
    ],
  },
  {
    name: 'tail-not-durable',
    breaks: 'a handover gives before the tail is durable',
    changes: [
      {
        file: 'log/tail-store.ts',
        find: 'await Promise.all(unsynced.map((file) => file.datasync()));',
        put: '',
      },
    ],
  },
];
