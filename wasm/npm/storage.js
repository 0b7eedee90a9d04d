// What the kinds of storage have in common.

/** A call that goes on, and tells later what came of it. */
export const PENDING = -100;

const CODES = {
  QuotaExceededError: -1,
  FencedError: -2,
  NotFoundError: -3,
  InvalidStateError: -3,
  UnknownError: -5,
};

/** What a failure is to the log; what exactly it was, is kept for the error's cause. */
export function failed(storage, error) {
  storage.failure = error;
  return CODES[error?.name] ?? -5;
}

/** Stands in the storage while an import goes on. */
export const MARK = 'IMPORT';

/** Refuses what an import has left that did not end. */
export function whole(names) {
  if (names.includes(MARK)) throw new DOMException('an import of this log did not end: delete the log, and import it again', 'UnknownError');
}

/** Begins something, and tells the storage's engine what came of it. */
export function later(storage, run) {
  run().then(
    (value) => (value === PENDING ? 0 : storage.resume(value || 0)),
    (error) => storage.resume(failed(storage, error)),
  );
  return PENDING;
}
