/** What goes wrong with a log. `code` is stable; `lsn` and `place` are there where the error is about one. */
export class DuralogError extends Error {
  constructor(code, message, { cause, lsn, place } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DuralogError';
    this.code = code;
    if (lsn) this.lsn = lsn;
    if (place) this.place = place;
  }
}

/** Stops with the signal's reason, as a fetch does. */
export const stopped = (signal) => {
  if (signal?.aborted) throw signal.reason;
};
