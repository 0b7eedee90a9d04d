// What a log promises, whatever it is kept on: run in Node and in every browser, against the packed package.

const text = (string) => new TextEncoder().encode(string);

const equal = (found, expected, what = 'value') => {
  const form = (value) => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : ArrayBuffer.isView(v) ? [...v].map(String) : v));
  if (form(found) !== form(expected)) throw new Error(`${what}: ${form(found)} where ${form(expected)} was expected`);
};

const rejects = async (promise, code) => {
  try {
    await promise;
  } catch (error) {
    if (error.code === code) return error;
    throw new Error(`${error.code ?? error.name} (${error.message}) where ${code} was expected`);
  }
  throw new Error(`it went well where ${code} was expected`);
};

const collect = async (iterable) => {
  const entries = [];
  for await (const entry of iterable) entries.push(entry);
  return entries;
};

const contents = async (log, options) =>
  (await collect(log.read(options))).filter(({ bytes }) => bytes).map(({ bytes }) => new TextDecoder().decode(bytes));

const bytesOf = async (log) => {
  const stream = new TransformStream();
  const bytes = new Response(stream.readable).arrayBuffer();
  await log.exportTo(stream.writable);
  return new Uint8Array(await bytes);
};

/** Where the bytes of a text begin. */
const find = (bytes, string) => {
  const wanted = text(string);
  let at = bytes.indexOf(wanted[0]);
  while (at >= 0 && !wanted.every((byte, index) => bytes[at + index] === byte)) at = bytes.indexOf(wanted[0], at + 1);
  return at;
};

export const contract = ({ Log, MemoryStore, DuralogError }, device) => {
  let count = 0;
  const fresh = () => `contract ${device} ${Date.now()} ${++count}`;
  const open = (name, options) => Log.open(name, { device, ...options });
  const within = async (options, run) => {
    const name = fresh();
    const log = await open(name, options);
    try {
      await run(log, name);
    } finally {
      await log.close().catch(() => {});
      await Log.delete(name, { device });
    }
  };

  const LONG = 'x'.repeat(1000);
  const opened = async (name, options, run) => {
    const log = await open(name, options);
    try {
      await run(log);
    } finally {
      await log.close().catch(() => {});
    }
  };
  /** Runs with a closed log of 300 entries in several segments, of which some are damaged. */
  const damaged = (lsns, run) =>
    within({ segmentSize: 1 << 16 }, async (log) => {
      for (let n = 1; n < 301; n++) log.append(text(`${n} ${LONG}`), { durable: false });
      await log.sync();
      const bytes = await bytesOf(log);
      for (const lsn of lsns) bytes[find(bytes, `${lsn} ${LONG}`) + 9] ^= 1;
      const name = fresh();
      const stream = () => new Blob([bytes]).stream();
      await Log.importFrom(name, stream(), { device, verify: false });
      try {
        await run(name, stream);
      } finally {
        await Log.delete(name, { device });
      }
    });
  /** The LSNs that are read, and the error that ended reading. */
  const read = async (log, options) => {
    const lsns = [];
    try {
      for await (const { lsn } of log.read(options)) lsns.push(Number(lsn));
    } catch (error) {
      return [lsns, error];
    }
    return [lsns];
  };
  const range = (from, to) => Array.from({ length: Math.abs(to - from) + 1 }, (_, n) => (from < to ? from + n : from - n));

  return {
    'an append is there after a reopening, with its LSN': () =>
      within({}, async (log, name) => {
        const receipt = await log.append(text('first'));
        equal(receipt.lsn, 1n);
        equal(receipt.durability, device === 'memory' ? 'memory' : 'strict');
        await log.close();
        const again = await open(name);
        equal(again.recoveryReport().lastValidLsn, 1n);
        equal(again.recoveryReport().closed, true);
        equal(await contents(again), ['first']);
        equal((await again.append(text('second'))).lsn, 2n);
        await again.close();
      }),

    'a log that is not closed keeps what it acknowledged': () =>
      within({}, async (log, name) => {
        for (let n = 0; n < 5; n++) await log.append(text(`${n}`));
        const reader = await open(name, { readOnly: true });
        equal(await contents(reader), ['0', '1', '2', '3', '4']);
        await rejects(reader.append(text('x')), 'read_only');
        await reader.close();
      }),

    'overlapping appends keep their order and share syncs': () =>
      within({}, async (log) => {
        const receipts = await Promise.all(Array.from({ length: 500 }, (_, n) => log.append(text(`${n}`))));
        equal(receipts.map(({ lsn }) => lsn), Array.from({ length: 500 }, (_, n) => BigInt(n + 1)));
        equal(await contents(log), Array.from({ length: 500 }, (_, n) => `${n}`));
        const { syncs, appends } = await log.stats();
        equal(appends, 500);
        if (syncs > 10) throw new Error(`${syncs} syncs for 500 appends at once`);
      }),

    'many segments are written, read back both ways and from the middle': () =>
      within({ segmentSize: 1 << 16 }, async (log, name) => {
        const long = 'x'.repeat(1000);
        for (let n = 0; n < 30; n++) await Promise.all(Array.from({ length: 10 }, (_, m) => log.append(text(`${n * 10 + m} ${long}`))));
        const expected = Array.from({ length: 300 }, (_, n) => `${n} ${long}`);
        equal(await contents(log), expected);
        equal(await contents(log, { reverse: true }), [...expected].reverse());
        equal(await contents(log, { from: 101n, to: 110n }), expected.slice(100, 110));
        if ((await log.stats()).totalSegments < 4) throw new Error('the segments are too few');
        await log.close();
        const again = await open(name, { segmentSize: 1 << 16, fullCheck: true });
        equal(await contents(again), expected);
        equal((await again.verify()).clean, true);
        await again.close();
      }),

    'a batch is one, an empty one is nothing': () =>
      within({}, async (log) => {
        equal(await log.appendBatch([]), null);
        const { first, lsn } = await log.appendBatch([text('a'), text('b'), text('c')]);
        equal([first, lsn], [1n, 3n]);
        const entries = await collect(log.read());
        equal(entries.map(({ batchContinues }) => batchContinues ?? false), [true, true, false]);
      }),

    'a transaction counts if its function resolves, and not if it throws': () =>
      within({}, async (log) => {
        const result = await log.transaction(async (tx) => {
          await tx.append(text('kept'));
          await tx.appendBatch([text('too')]);
          return 'result';
        });
        equal(result, 'result');
        const why = new Error('no');
        const thrown = await log.transaction(async (tx) => {
          await tx.append(text('dropped'));
          throw why;
        }).catch((error) => error);
        if (thrown !== why) throw new Error('the error of the function is not the one that came');
        let late;
        await log.transaction(async (tx) => void (late = tx));
        await rejects(late.append(text('late')), 'no_transaction');
        equal(await contents(log, { counting: true }), ['kept', 'too']);
      }),

    'operations come back as they went in, every float bit for bit': () =>
      within({}, async (log) => {
        const id = '00112233-4455-6677-8899-aabbccddeeff';
        const embedding = new Float32Array(new Uint32Array([0x7fc00001, 0xff800001, 0x80000000, 0x7f800000, 1]).buffer);
        await log.append({ type: 'insert', id, kind: 'chunk', content: 'Zürich ✓', embedding });
        await log.append({ type: 'update', id, content: '' });
        await log.append({ type: 'batchInsert', items: [{ id, content: 'a', embedding: [1] }, { id, content: 'b' }] });
        await log.append({ type: 'batchDelete', ids: [id, id] });
        await log.append({ type: 'delete', id });
        const [insert, update, batch, ids, gone] = await collect(log.read());
        equal([insert.id, insert.kind, insert.content], [id, 'chunk', 'Zürich ✓']);
        equal([...new Uint32Array(insert.embedding.buffer)], [...new Uint32Array(embedding.buffer)]);
        equal([update.type, update.kind, update.embedding.length], ['update', 'document', 0]);
        equal(batch.items.map(({ content }) => content), ['a', 'b']);
        equal(ids.ids, [id, id]);
        equal([gone.type, gone.id], ['delete', id]);
        await rejects(log.append({ type: 'delete', id: 'no id' }), 'invalid');
        await rejects(log.append({ type: 'nonsense' }), 'invalid');
        await rejects(log.append(undefined), 'invalid');
        await rejects(log.appendBatch([text('good'), 7]), 'invalid');
        equal((await log.append(text('goes on'))).lsn, 6n);
      }),

    'a store is built up again from its checkpoint and what follows': () => {
      const name = fresh();
      return (async () => {
        const store = await MemoryStore.open(name, { device });
        const ids = Array.from({ length: 300 }, () => crypto.randomUUID());
        await Promise.all(ids.map((id, n) => store.insert({ id, content: `note ${n}`, embedding: [n, -n] })));
        await store.delete(ids[0]);
        equal(await store.checkpoint(), 1n);
        await store.update({ id: ids[1], content: 'changed', kind: 'chunk' });
        equal(await store.size(), 299);
        await store.close();
        const again = await MemoryStore.open(name, { device });
        equal(again.rebuilt.checkpointUsed.lsn, 301n);
        equal(again.rebuilt.entriesReplayed, 1n);
        equal(await again.has(ids[0]), false);
        equal((await again.get(ids[1])).content, 'changed');
        equal([...(await again.get(ids[2])).embedding], [2, -2]);
        const seen = await collect(again);
        equal(seen.map(({ id }) => id), [...ids.slice(1)].sort());
        await again.close();
        await Log.delete(name, { device });
      })();
    },

    'a store is what its log says, in order, and a transaction is in it when it commits': () => {
      const name = fresh();
      return (async () => {
        const store = await MemoryStore.open(name, { device, syncMode: 'batched' });
        const [a, b] = [crypto.randomUUID(), crypto.randomUUID()];
        const kept = async (store) => [(await store.get(a)).content, (await store.get(b)).content];
        const inserted = store.insert({ id: a, content: 'first' }, { durable: true });
        await Promise.all([inserted, store.update({ id: a, content: 'second' }), store.insert({ id: b, content: 'before' })]);
        await store.log.transaction(async (tx) => {
          await tx.append({ type: 'update', id: b, content: 'of the transaction' });
          await store.checkpoint();
          equal(await kept(store), ['second', 'before']);
        });
        equal(await kept(store), ['second', 'of the transaction']);
        await store.checkpoint();
        await store.close();
        const again = await MemoryStore.open(name, { device });
        equal(again.rebuilt.entriesReplayed, 0n);
        equal(await kept(again), ['second', 'of the transaction']);
        await again.close();
        await Log.delete(name, { device });
      })();
    },

    'truncation keeps what a checkpoint does not hold, and gives room back': () =>
      within({ segmentSize: 1 << 16 }, async (log, name) => {
        const bytes = new Uint8Array(4000);
        for (let n = 0; n < 60; n++) await log.append(bytes);
        equal(await log.truncateBefore(50n), 1n);
        const before = (await log.stats()).totalSizeBytes;
        await log.checkpoint({ bytes: text('state'), metadata: { a: 'b' } });
        equal(await log.truncateBefore(50n), 50n);
        if ((await log.stats()).totalSizeBytes > before / 2) throw new Error('no room was given back');
        await rejects(collect(log.read({ from: 10n })), 'truncated');
        equal((await collect(log.read()))[0].lsn, 50n);
        await log.close();
        const again = await open(name);
        equal(again.recoveryReport().lowWaterMark, 50n);
        equal(again.recoveryReport().checkpointUsed.lsn, 60n);
        await again.close();
      }),

    'appends that are answered at once are durable after a sync': () =>
      within({ syncMode: 'batched', interval: 60_000 }, async (log, name) => {
        const receipt = await log.append(text('a'));
        equal(receipt.durability, 'buffered');
        equal(await log.sync(), 1n);
        equal(log.syncedLsn, 1n);
        const own = await log.append(text('b'), { durable: true });
        equal(own.durability, device === 'memory' ? 'memory' : 'strict');
        equal(await log.waitDurable(2n), 2n);
        await log.append(text('c'));
        await log.close();
        const again = await open(name);
        equal(await contents(again), ['a', 'b', 'c']);
        await again.close();
      }),

    'a second writer is refused, or waits': () =>
      within({}, async (log, name) => {
        const error = await rejects(open(name), 'locked');
        if (!(error instanceof DuralogError) || !(error instanceof Error)) throw new Error('no DuralogError');
        const stop = new AbortController();
        const waiting = open(name, { wait: true, signal: stop.signal });
        stop.abort(new Error('enough'));
        equal(await waiting.catch(({ message }) => message), 'enough');
        const next = open(name, { wait: true });
        await log.append(text('a'));
        await log.close();
        const second = await next;
        equal(await contents(second), ['a']);
        await second.close();
      }),

    'what cannot be is refused by name': () =>
      within({}, async (log, name) => {
        await rejects(log.append(new Uint8Array(2 << 20)), 'too_large');
        equal((await log.append(text('goes on'))).lsn, 1n);
        await rejects(open(fresh(), { create: false }), 'not_found');
        await rejects(open(fresh(), { readOnly: true }), 'not_found');
        await rejects(open(fresh(), { policy: 'none' }), 'config');
        await rejects(open(fresh(), { nonsense: 1 }), 'config');
        await rejects(open(fresh(), { segmentSize: 100 }), 'config');
        await rejects(Log.open('x', { device: 'tape' }), 'config');
        for (const none of ['', undefined, 7]) {
          await rejects(open(none), 'config');
          await rejects(Log.delete(none, { device }), 'config');
          await rejects(Log.importFrom(none, new ReadableStream(), { device }), 'config');
        }
        await log.close();
        await log.close();
        await rejects(log.append(text('x')), 'closed');
        await rejects(collect(log.read()), 'closed');
        await rejects(open(name, { expectDurable: 5n }), 'refused');
        equal((await Log.list({ device })).some((log) => log.name === name), true);
        await Log.delete(name, { device });
        equal((await Log.list({ device })).some((log) => log.name === name), false);
        await rejects(open(name, { expectDurable: 1n }), 'lost');
        await Log.delete(name, { device });
      }),

    'a wrong argument is refused by name, and neither its log nor another one is harmed': () =>
      within({ syncMode: 'batched' }, async (other) => {
        const id = '6ba7b810-9dad-11d1-80b4-00c04fd430c8';
        await other.append(text('answered before'));
        for (const options of [
          { segmentSize: 1500000.5 },
          { readOnly: 'no' },
          { onBlocked() {} },
          { nonsense: {} },
          { syncMode: 'batched', interval: NaN },
          { syncMode: 'batched', interval: -1 },
        ]) {
          await open(fresh(), options).then(
            () => equal(options, 'refused'),
            ({ code }) => equal(['config', 'invalid'].includes(code), true, JSON.stringify(options)),
          );
        }
        await within({ expectDurable: null, create: null, syncMode: 'batched', interval: 16.7 }, async (log) => {
          for (const operation of [
            { type: 'opaque', bytes: 'hello' },
            { type: 'opaque', bytes: {} },
            { type: 'insert', id, content: 12345 },
            { type: 'insert', id, embedding: 0.5 },
            { type: 'insert', id, embedding: '12a' },
            { type: 'insert', id, kind: 'Chunk' },
            { type: 'insert', id: { toString: () => id } },
            'hello',
            null,
          ]) {
            await rejects(log.append(operation), 'invalid');
          }
          const wrong = [{ metadata: null }, { documentIds: 'abc' }, { documentIds: [[id]] }, { bytes: 'hello' }, { bytes: null }];
          for (const snapshot of [...wrong, new Uint8Array(4), 'hello', 7]) await rejects(log.checkpoint(snapshot), 'invalid');
          await log.appendBatch(Array.from({ length: 20 }, (_, n) => text(`${n}`)));
          for (const lsn of [-1n, -100n, 1n << 64n, 1.5, '7', null, undefined]) {
            await rejects(log.discardBefore(lsn), 'invalid');
            await rejects(log.truncateBefore(lsn), 'invalid');
            await rejects(log.waitDurable(lsn), 'invalid');
          }
          await rejects(collect(log.read({ from: -3n })), 'invalid');
          await rejects(collect(log.read({ reverse: true, counting: true })), 'invalid');
          equal(await contents(log, { to: 0n }), []);
          equal((await contents(log)).length, 20);
        });
        equal((await other.append(text('goes on'))).lsn, 2n);
      }),

    'what is given to an append is taken as it is then': () =>
      within({}, async (log) => {
        const bytes = text('1111');
        const appends = [1, 2, 3].map((n) => (bytes.fill(48 + n), log.append(bytes)));
        bytes.fill(57);
        await Promise.all(appends);
        equal(await contents(log), ['1111', '2222', '3333']);
      }),

    'a log is closed while a transaction runs, and its page goes on': () =>
      within({}, async (log) => {
        let end;
        const running = log.transaction(async (tx) => {
          await tx.append(text('within'));
          await new Promise((resolve) => (end = resolve));
        });
        while (!end) await new Promise((resolve) => setTimeout(resolve));
        await log.close();
        end();
        await rejects(running, 'closed');
        await within({}, async (other) => equal((await other.append(text('goes on'))).lsn, 1n));
      }),

    'whoever is told of an opening and throws has not opened it': async () => {
      const name = fresh();
      const onProgress = ({ phase }) => {
        if (phase === 'open') throw new Error('enough');
      };
      equal(await open(name, { onProgress }).catch(({ message }) => message), 'enough');
      const log = await open(name);
      await log.close();
      await Log.delete(name, { device });
    },

    'what stands before damage is read, and then it is told, whichever way is read': () =>
      damaged([145], async (name) => {
        for (const [options, expected] of [
          [{}, range(1, 144)],
          [{ counting: true }, range(1, 144)],
          [{ reverse: true }, range(300, 146)],
          [{ from: 145n }, []],
        ]) {
          await opened(name, { readOnly: true }, async (log) => {
            const [lsns, error] = await read(log, options);
            equal([lsns, error?.code, error?.lsn], [expected, 'damaged', 145n], Object.keys(options).join());
          });
        }
        await opened(name, {}, async (log) => {
          // Another reader's damage is none of the writer's.
          await log.append(text('goes on'));
          // Its own stops it, and whoever appends meanwhile is told.
          const appending = async () => {
            for (let turn = 0; turn < 30; turn++) await Promise.race([log.append(text('meanwhile')).catch(() => {}), undefined]);
          };
          const [[lsns, error]] = await Promise.all([read(log), appending()]);
          equal([lsns, error?.lsn], [range(1, 144), 145n]);
          await rejects(log.append(text('more')), 'poisoned');
          for await (const { lsn } of log.read()) if (lsn === 100n) break;
        });
      }),

    'a log is imported whole, and a damaged one only where that is asked for': async () => {
      await damaged([], async (name, stream) => {
        await Log.delete(name, { device });
        await Log.importFrom(name, stream(), { device });
        await opened(name, {}, async (log) => equal((await contents(log)).length, 300));
      });
      await damaged([145, 200], async (name, stream) => {
        await Log.delete(name, { device });
        const error = await rejects(Log.importFrom(name, stream(), { device }), 'damaged');
        equal([error.lsn, /^segment_.*:\d+$/.test(error.place)], [145n, true]);
        equal((await Log.list({ device })).some((log) => log.name === name), false);
        await rejects(open(name, { create: false }), 'not_found');
      });
    },

    'a policy that skips damage tells of what it has skipped, in its place': () =>
      damaged([30, 145], async (name) => {
        await opened(name, { policy: 'inspect' }, async (log) => {
          for (const options of [{}, { counting: true }]) {
            const reading = log.read(options);
            const told = new Map();
            for await (const { lsn } of reading) told.set(lsn, reading.findings.length);
            equal(told.size, 298);
            equal([29n, 31n, 144n, 146n].map((lsn) => told.get(lsn)), [0, 1, 1, 2], Object.keys(options).join());
            const lsns = reading.findings.map(({ lsns: { first, last } }) => [first, last]);
            equal(lsns, [[30n, 30n], [145n, 145n]]);
          }
          const [backwards, error] = await read(log, { reverse: true });
          equal([backwards, error?.lsn], [range(300, 146), 145n]);
          equal(log.read().findings, []);
        });
        const store = await MemoryStore.open(name, { device, policy: 'inspect' });
        equal(store.rebuilt.findings.map(({ lsns }) => lsns.first), [30n, 145n]);
        await store.close();
      }),

    'a checkpoint is loaded as it was given, by whoever opens the log': () =>
      within({}, async (log, name) => {
        equal(await log.loadCheckpoint(), null);
        await log.append(text('before'));
        const ids = ['00112233-4455-6677-8899-aabbccddeeff', '10112233-4455-6677-8899-aabbccddeeff', '20112233-4455-6677-8899-aabbccddeeff'];
        const bytes = crypto.getRandomValues(new Uint8Array(50_000));
        const snapshot = { bytes, documentIds: ids.slice(0, 2), chunkIds: ids.slice(2), metadata: { of: 'Zürich ✓', type: 'insert' } };
        await log.checkpoint({ bytes: text('first') });
        await log.append(text('between'));
        await log.checkpoint(snapshot);
        await log.append(text('behind'));
        const loads = async (log) => {
          const { id, lsn, checkpointsRejected, findings, ...loaded } = await log.loadCheckpoint();
          equal(loaded, { bytes, metadata: snapshot.metadata, documentIds: snapshot.documentIds, chunkIds: snapshot.chunkIds });
          equal([id, lsn, checkpointsRejected, findings], [2n, 3n, undefined, undefined]);
          equal(await contents(log, { from: lsn + 1n, counting: true }), ['behind']);
        };
        await loads(log);
        await opened(name, { readOnly: true }, loads);
        await log.checkpoint({});
        const { bytes: none, metadata, documentIds } = await log.loadCheckpoint();
        equal([none.length, metadata, documentIds], [0, {}, []]);
        await log.truncateBefore(log.currentLsn);
        equal((await log.append(text('goes on'))).lsn, 7n);
        await log.close();
        await rejects(log.loadCheckpoint(), 'closed');
      }),

    "a store's log takes no checkpoint but the store's": async () => {
      const name = fresh();
      const options = { device, segmentSize: 1 << 16 };
      const store = await MemoryStore.open(name, options);
      const id = crypto.randomUUID();
      await store.insert({ id, content: 'kept' });
      for (const snapshot of [{}, { bytes: text('another') }]) await rejects(store.log.checkpoint(snapshot), 'in_store');
      for (let n = 0; n < 100; n++) store.insert({ id: crypto.randomUUID(), content: LONG });
      equal(await store.checkpoint(), 1n);
      await store.log.truncateBefore(store.log.currentLsn);
      equal((await store.log.loadCheckpoint()).documentIds.length, 101);
      await store.close();
      const again = await MemoryStore.open(name, options);
      equal([await again.size(), (await again.get(id)).content], [101, 'kept']);
      await again.close();
      await Log.delete(name, { device });
    },

    'a reader stops where it is told to, and the log goes on': () =>
      within({}, async (log) => {
        await log.appendBatch(Array.from({ length: 100 }, (_, n) => text(`${n}`)));
        for await (const { lsn } of log.read()) if (lsn === 3n) break;
        const stop = new AbortController();
        const found = (async () => {
          for await (const { lsn } of log.read({ signal: stop.signal })) if (lsn === 5n) stop.abort();
        })();
        equal(await found.catch(({ name }) => name), 'AbortError');
        equal((await log.append(text('goes on'))).lsn, 101n);
        const [one, two] = await Promise.all([contents(log), contents(log, { reverse: true })]);
        equal([one.length, two.length], [101, 101]);
      }),
  };
};
