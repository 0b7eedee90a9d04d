// A log in a worker, as the worker has it: the calls of a window, each a message.

// Bundlers want the same name as a literal where a worker is made.
export const WORKER = 'duralog:worker';

/** Serves a window from this worker. */
export function serve(openEngine, openImporter) {
  let engine;
  let answers = [];
  const answer = (one) => {
    // What comes in one turn goes back in one message.
    if (!answers.length) queueMicrotask(() => globalThis.postMessage(answers.splice(0)));
    answers.push(one);
  };
  const perform = async ({ id, call, args }) => {
    try {
      let value;
      if (call === 'open') {
        engine = await openEngine(...args);
        value = engine.report;
      } else if (call === 'import') {
        engine = await openImporter(...args);
      } else if (call !== 'hello') {
        try {
          value = await engine[call](...args);
        } finally {
          // However it ends: the files of OPFS are this worker's until it lets go of them, or is gone some time later.
          if (call === 'close') engine.release();
        }
      }
      answer({ id, value });
    } catch (error) {
      const { code = 'panic', message, lsn, place, cause } = error;
      answer({ id, error: { code, message, lsn, place, cause: cause && new DOMException(cause.message, cause.name) } });
    }
  };
  globalThis.onmessage = ({ data }) => data.forEach(perform);
}

/** Whether this is a worker that the package has started. */
export const isWorker = () => typeof WorkerGlobalScope !== 'undefined' && globalThis.name === WORKER;
