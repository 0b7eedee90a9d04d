// The worker: it owns the store of notes, and does what the page asks. Killing it is a crash of the program.

import { Log, MemoryStore } from '/node_modules/duralog/index.js';

const NAME = 'demo';
let store;

const open = async () => {
  // A worker that was killed a moment ago may still hold the lock.
  store = await MemoryStore.open(NAME, { wait: true });
  return store.log.recoveryReport();
};

const calls = {
  open,
  add: (content) => store.insert({ id: crypto.randomUUID(), content }),
  /** One after the other, so that each is acknowledged by itself. */
  many: async (count) => {
    for (let n = 1; n <= count; n++) {
      const { lsn } = await store.insert({ id: crypto.randomUUID(), content: `note ${n} of ${count}` });
      postMessage({ acknowledged: lsn });
    }
  },
  checkpoint: () => store.checkpoint(),
  look: async () => {
    const { currentLsn, syncedLsn, totalSegments, totalSizeBytes, syncs, usage, persisted } = await store.log.stats();
    const newest = [];
    for await (const entry of store.log.read({ reverse: true })) {
      if (entry.type === 'insert') newest.push({ lsn: entry.lsn, content: entry.content });
      if (newest.length === 12) break;
    }
    return { size: await store.size(), currentLsn, syncedLsn, totalSegments, totalSizeBytes, syncs, usage, persisted, newest };
  },
  verify: () => store.log.verify(),
  export: async () => {
    const { readable, writable } = new TransformStream();
    const blob = new Response(readable).blob();
    await store.log.exportTo(writable);
    return blob;
  },
  /** In place of the notes that are there: the page has asked whether they may go. */
  import: async (blob) => {
    await Log.importFrom(`${NAME} import`, blob.stream()).finally(() => Log.delete(`${NAME} import`));
    await store.close();
    await Log.delete(NAME);
    await Log.importFrom(NAME, blob.stream());
    return open();
  },
};

onmessage = async ({ data: { id, call, args } }) => {
  try {
    postMessage({ id, value: await calls[call](...args) });
  } catch (error) {
    postMessage({ id, error: `${error.code ?? error.name}: ${error.message}` });
  }
};
