/** Where a log is kept. */
export type Device = 'indexeddb' | 'opfs' | 'memory';
/** When an append is answered: when it is durable, or at once and synced after an interval. A page that is hidden or left
 * hands over what is outstanding. */
export type SyncMode = 'immediate' | 'batched' | 'async';
/** What recovery may do about damage. */
export type Policy = 'strict' | 'default' | 'point-in-time' | 'salvage' | 'inspect';
/** What `IndexedDB` is asked for at each sync: a flush to the disk, or to hand over to the operating system. */
export type FlushDurability = 'strict' | 'relaxed';
/** What an append has reached. `memory` is never on stable storage. */
export type Durability = 'buffered' | 'relaxed' | 'strict' | 'memory';

/** The stable words for what goes wrong. Later versions may add some. */
export type ErrorCode =
  | 'locked' | 'quota' | 'damaged' | 'refused' | 'poisoned' | 'fenced' | 'gone' | 'closed' | 'unsupported' | 'lost'
  | 'panic' | 'not_found' | 'foreign' | 'too_large' | 'read_only' | 'truncated' | 'no_transaction' | 'in_store'
  | 'too_many_transactions' | 'checkpoint' | 'state_lost' | 'exhausted' | 'undecodable' | 'device' | 'config' | 'invalid' | 'exists'
  | 'fault' | (string & {});

/** What goes wrong with a log. `message` says what, where and what to do. */
export class DuralogError extends Error {
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown; lsn?: bigint; place?: string });
  readonly name: 'DuralogError';
  readonly code: ErrorCode;
  /** The LSN that it is about. */
  readonly lsn?: bigint;
  /** The object and the offset in it. */
  readonly place?: string;
}

/** A document, or a part of one. */
export interface Item {
  /** A UUID. */
  id: string;
  /** `document` unless said otherwise. */
  kind?: 'document' | 'chunk';
  content?: string;
  /** Kept bit for bit where it is a `Float32Array`. */
  embedding?: Float32Array | readonly number[];
}

/** What can be appended: bytes that only the application knows, or an operation on documents and chunks. An `insert` and an
 * `update` both put the whole item in the place of the one with that id, if there is one. */
export type Operation =
  | Uint8Array
  | ArrayBuffer
  | { type: 'opaque'; bytes: Uint8Array }
  | ({ type: 'insert' | 'update' } & Item)
  | { type: 'delete'; id: string }
  | { type: 'batchInsert'; items: readonly Item[] }
  | { type: 'batchDelete'; ids: readonly string[] };

/** What an append returns: where the entries are in the log, and how durable they are. */
export interface Receipt {
  /** The LSN of the first entry. */
  first: bigint;
  /** The LSN of the entry, or of the last one of a batch. */
  lsn: bigint;
  durability: Durability;
}

/** An item as it is read. */
export interface StoredItem {
  id: string;
  kind: 'document' | 'chunk';
  content: string;
  embedding: Float32Array;
}

interface EntryBase {
  lsn: bigint;
  /** Microseconds since the Unix epoch. */
  timestamp: number;
  /** The id of the transaction that it belongs to. */
  transaction?: bigint;
  /** Whether the next entry belongs to the same batch. */
  batchContinues?: boolean;
}

/** An entry of the log. */
export type Entry = EntryBase &
  (
    | { type: 'opaque' | 'undecodable'; bytes: Uint8Array }
    | ({ type: 'insert' | 'update' } & StoredItem)
    | { type: 'delete'; id: string }
    | { type: 'batchInsert'; items?: StoredItem[] }
    | { type: 'batchDelete'; ids?: string[] }
    | { type: 'checkpoint'; checkpointId: bigint }
    | { type: 'begin' | 'commit' | 'rollback' }
  );

/** A place of the log that is not as it should be. */
export interface Finding {
  verdict: string;
  message: string;
  place: string;
  /** The LSNs that are gone. */
  lsns?: { first: bigint; last: bigint };
  /** Whether nothing is lost by it. */
  harmless: boolean;
}

/** What recovery found. */
export interface RecoveryReport {
  logId: string;
  epoch: bigint;
  policy: Policy;
  /** Whether the log was made now. */
  created: boolean;
  entriesRecovered: bigint;
  entriesSkipped: bigint;
  entriesReplayed: bigint;
  lastValidLsn: bigint;
  /** The first LSN that truncation keeps. */
  lowWaterMark: bigint;
  /** The highest LSN that is proved to have been durable. */
  durableLsn: bigint;
  /** The LSNs whose entries were read and verified; no more is claimed. */
  verified?: { first: bigint; last: bigint };
  checkpointUsed?: { id: bigint; lsn: bigint };
  /** The tail that a crash left half written, and that was cut off. */
  tornTail?: { verdict: string; segment: string; offset: number; bytes: number; frames: number };
  findings: Finding[];
  acceptedLoss: bigint;
  repersisted: bigint;
  /** Whether the log had been closed. */
  closed: boolean;
  /** Whether nothing was dropped and nothing is damaged. */
  clean: boolean;
  writable: boolean;
  /** Whether nothing that was acknowledged is known to be gone. */
  success: boolean;
  durationUs: bigint;
}

/** Figures of an open log, and of the storage that it is in. */
export interface Stats {
  /** The LSN that the next entry will have. */
  currentLsn: bigint;
  /** The last LSN that is durable. */
  syncedLsn: bigint;
  /** The LSN of the newest checkpoint; 0 if there is none. */
  lastCheckpointLsn: bigint;
  totalSegments: number;
  totalSizeBytes: number;
  appends: number;
  groups: number;
  syncs: number;
  bytesWritten: number;
  device: Device;
  durability: FlushDurability;
  syncMode: SyncMode;
  /** What the browser allows this site, in bytes, as it estimates. */
  quota?: number;
  /** What this site uses of it. */
  usage?: number;
  /** Whether the browser has promised to keep it. */
  persisted?: boolean;
}

/** How a log is opened. */
export interface OpenOptions {
  /** `indexeddb` unless said otherwise. */
  device?: Device;
  /** `immediate` unless said otherwise. */
  syncMode?: SyncMode;
  /** Milliseconds between syncs in the modes that do not wait for each append: 100. */
  interval?: number;
  /** `strict`, but `relaxed` in the mode `async`. For IndexedDB; a flush of OPFS is always strict. */
  durability?: FlushDurability;
  policy?: Policy;
  /** An LSN that the caller knows to have been durable: a log that lost it is not opened as if it had not. */
  expectDurable?: bigint;
  /** Whether a log is made where there is none: true. */
  create?: boolean;
  /** Read it as it stands now, beside a writer perhaps. Nothing is written. */
  readOnly?: boolean;
  /** Whether opening reads and verifies every entry. */
  fullCheck?: boolean;
  /** Wait for the writer that has the log open, rather than being refused. */
  wait?: boolean;
  /** Take the log from the writer that has it open. In IndexedDB that one can write nothing any more, or over quota the log is not
   * taken (`quota`). In OPFS its files are its own until it closes or its page goes: this one waits for that. What is in memory
   * cannot be taken. */
  steal?: boolean;
  /** Stops opening, and waiting for the lock. */
  signal?: AbortSignal;
  onProgress?(progress: { phase: 'recovery' | 'open'; report?: RecoveryReport }): void;
  /** Another writer has taken the log. */
  onLost?(): void;
  /** A worker for OPFS in a window, of this log alone, that has imported `duralog/worker`: it has to be a module and be started
   * with the name `duralog:worker`. */
  worker?: Worker;
  /** Bytes of a new segment: 4 MiB. */
  segmentSize?: number;
  /** The most bytes that are ever written beyond the last sync: half a segment. */
  writeLimit?: number;
  /** How many checkpoints are kept, 1 to 8: 2. */
  checkpointRetention?: number;
  /** The most transactions open at once, 1 to 16: 8. */
  maxTransactions?: number;
}

/** How a log is exported or imported. */
export interface TransferOptions {
  signal?: AbortSignal;
  onProgress?(progress: { bytes: number; total?: number }): void;
}

/** What is asked of one append. */
export interface AppendOptions {
  /** Whether it is answered when it is durable, whatever the log's mode. */
  durable?: boolean;
}

/** What is read. */
export interface ReadOptions {
  /** The first LSN; the first one kept unless said. An LSN below 0 is an error here and wherever one is given. */
  from?: bigint;
  /** The last LSN. */
  to?: bigint;
  /** Newest first. */
  reverse?: boolean;
  /** What counts, rather than what stands in the log: entries of a transaction where it was committed. */
  counting?: boolean;
  signal?: AbortSignal;
}

/** A state as a checkpoint keeps it. */
export interface Snapshot {
  bytes?: Uint8Array;
  documentIds?: readonly string[];
  chunkIds?: readonly string[];
  metadata?: Readonly<Record<string, string>>;
}

/** A checkpoint that was loaded. What counts behind its LSN is not in it: read that `counting` from there on. */
export interface Checkpoint extends Required<Snapshot> {
  id: bigint;
  lsn: bigint;
  /** Newer ones that were passed over, and what is wrong with them. */
  checkpointsRejected?: { id: bigint; message: string }[];
  /** What a policy that skips damage passed over. */
  findings?: Finding[];
}

/** The entries that are read. */
export interface Reading extends AsyncGenerator<Entry, void, undefined> {
  /** What was skipped so far, where the policy skips damage (`inspect`, `salvage`): look at it when reading has ended. */
  readonly findings: readonly Finding[];
}

/** Operations that count together, or not at all. */
export interface Transaction {
  readonly id: bigint;
  append(operation: Operation): Promise<Receipt>;
  appendBatch(operations: Iterable<Operation>): Promise<Receipt>;
}

/** A write-ahead log, open in this page or worker. Calls may overlap; they keep their order. */
export class Log implements AsyncDisposable {
  private constructor();
  /** Opens a log, or makes one. */
  static open(name: string, options?: OpenOptions): Promise<Log>;
  /** The logs of this site. */
  static list(options?: { device?: Device }): Promise<{ name: string; device: Device }[]>;
  /** Deletes a log that nobody has open for writing. */
  static delete(name: string, options?: { device?: Device; wait?: boolean; signal?: AbortSignal }): Promise<void>;
  /** Writes the whole log to a stream of bytes, as `duralog unpack` takes it: a tar archive of its files. */
  exportTo(writable: WritableStream<Uint8Array>, options?: TransferOptions): Promise<{ objects: number; bytes: number }>;
  /** Makes a log of a stream of bytes, as `duralog pack` makes it. Never over a log that is there (`exists`). All of it is read and
   * verified before it is a log, and a damaged one is refused (`damaged`), unless `verify` is false: what can be read of one is
   * read by the policies `inspect` and `salvage`. */
  static importFrom(
    name: string,
    readable: ReadableStream<Uint8Array>,
    options?: TransferOptions & { device?: Device; durability?: FlushDurability; verify?: boolean; wait?: boolean; worker?: Worker },
  ): Promise<{ objects: number; bytes: number }>;
  /** Asks the browser to keep what this site stores; tells whether it will. */
  static persist(): Promise<boolean>;

  readonly name: string;
  /** The LSN that the next entry will have, as far as appends were answered. */
  readonly currentLsn: bigint;
  /** The last LSN known to be durable. */
  readonly syncedLsn: bigint;

  append(operation: Operation, options?: AppendOptions): Promise<Receipt>;
  /** Appends entries that a crash keeps all or not at all. None give `null`. */
  appendBatch(operations: Iterable<Operation>, options?: AppendOptions): Promise<Receipt | null>;
  /** Commits when the function resolves, and rolls back when it throws. */
  transaction<T>(run: (tx: Transaction) => Promise<T> | T): Promise<T>;
  /** Makes everything that was appended durable; gives the last LSN of it. */
  sync(): Promise<bigint>;
  /** Waits until the entry is durable, which it makes it. */
  waitDurable(lsn: bigint): Promise<bigint>;
  /** Writes a checkpoint: a snapshot that contains everything appended before. Gives its id. Of the log of a `MemoryStore` the
   * store makes it (`in_store`). */
  checkpoint(snapshot: Snapshot): Promise<bigint>;
  /** Loads the newest valid checkpoint; `null` if there is none. */
  loadCheckpoint(): Promise<Checkpoint | null>;
  /** Gives up entries below the LSN, as far as checkpoints hold them; gives the first LSN that is kept. */
  truncateBefore(lsn: bigint): Promise<bigint>;
  /** Gives up entries below the LSN, whether a checkpoint holds them or not. */
  discardBefore(lsn: bigint): Promise<bigint>;
  /** The entries as they stand when reading begins. Damage and gaps are errors in their place: what stands before them comes first.
   * They stop a log that is open for writing (`poisoned`), unless a checkpoint holds what is gone: nothing is written behind
   * what is lost before it was opened by a policy that gives it up. One that was opened `readOnly` stops no other.
   * By the policies `inspect` and `salvage` reading goes on behind damage, and `findings` of what is returned tells of it; but
   * `reverse` ends there by any. */
  read(options?: ReadOptions): Reading;
  [Symbol.asyncIterator](): Reading;
  /** What recovery found when the log was opened. */
  recoveryReport(): RecoveryReport;
  /** Reads and verifies every entry. */
  verify(): Promise<RecoveryReport>;
  stats(): Promise<Stats>;
  /** Closes the log: everything appended before is durable, and a seal says so. Closing again does nothing. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Documents and chunks by their ids, kept in memory and in a log: a change is logged before it is made. */
export class MemoryStore implements AsyncDisposable, AsyncIterable<StoredItem> {
  private constructor();
  /** Opens the log and builds the store up again from its newest checkpoint and what follows. */
  static open(name: string, options?: OpenOptions): Promise<MemoryStore>;
  /**
   * Its log. What is appended to it changes the store too: in the order of the LSNs, what belongs to a transaction when
   * that commits. Until it ends, what a transaction holds is kept in memory. A checkpoint goes through the store.
   */
  readonly log: Log;
  /** How it was built up. */
  readonly rebuilt: {
    entriesReplayed: bigint;
    checkpointUsed?: { id: bigint; lsn: bigint };
    checkpointsRejected?: { id: bigint; message: string }[];
    /** Entries that could not be decoded, by a policy that skips damage. */
    undecodableEntries?: { lsn: bigint }[];
    /** What was skipped, by such a policy. */
    findings?: Finding[];
  };
  insert(item: Item, options?: AppendOptions): Promise<Receipt>;
  update(item: Item, options?: AppendOptions): Promise<Receipt>;
  delete(id: string, options?: AppendOptions): Promise<Receipt>;
  apply(operation: Operation, options?: AppendOptions): Promise<Receipt>;
  applyBatch(operations: Iterable<Operation>, options?: AppendOptions): Promise<Receipt | null>;
  get(id: string): Promise<StoredItem | undefined>;
  has(id: string): Promise<boolean>;
  size(): Promise<number>;
  /** All of them, ids ascending. */
  [Symbol.asyncIterator](): AsyncGenerator<StoredItem, void, undefined>;
  /** Writes a checkpoint of the store, from which the next opening begins. Gives its id. */
  checkpoint(): Promise<bigint>;
  sync(): Promise<bigint>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
