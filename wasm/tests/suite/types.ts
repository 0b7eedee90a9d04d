// The types, as a consumer uses them: this is only compiled.

import { DuralogError, Log, MemoryStore, type Entry, type Receipt, type RecoveryReport } from 'duralog';
import { useWasm } from 'duralog/slim';

export async function use(signal: AbortSignal): Promise<bigint> {
  await using log = await Log.open('name', { device: 'opfs', syncMode: 'batched', interval: 50, policy: 'salvage', signal });
  const receipt: Receipt = await log.append(new Uint8Array([1]));
  const batch: Receipt | null = await log.appendBatch([{ type: 'insert', id: crypto.randomUUID(), embedding: [1, 2] }]);
  const seven: number = await log.transaction(async (tx) => (await tx.append({ type: 'delete', id: 'x' }), 7));
  for await (const entry of log.read({ from: 3n, reverse: true })) {
    if (entry.type === 'insert') entry.embedding.fill(seven);
    const lsn: bigint = entry.lsn;
    if (lsn === batch?.lsn) break;
  }
  const reading = log.read();
  for await (const { lsn } of reading) if (reading.findings.some(({ lsns }) => lsns?.last === lsn - 1n)) break;
  const loaded: Uint8Array | undefined = (await log.loadCheckpoint())?.bytes;
  const report: RecoveryReport = log.recoveryReport();
  // @ts-expect-error: an LSN is no number.
  await log.truncateBefore(5);
  // @ts-expect-error: there is no such device.
  await Log.open('name', { device: 'tape' });
  const store = await MemoryStore.open('name');
  const content: string | undefined = (await store.get('x'))?.content;
  try {
    useWasm(new URL('https://example.org/duralog.wasm'));
  } catch (error) {
    if (error instanceof DuralogError && error.code === 'quota') return error.lsn ?? 0n;
  }
  return receipt.lsn + BigInt(report.findings.length) + BigInt((content?.length ?? 0) + (loaded?.length ?? 0));
}

export type Kinds = Entry['type'];
