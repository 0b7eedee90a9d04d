// Measures in a worker.

import { measure } from './bench.js';

onmessage = async ({ data }) => {
  try {
    postMessage({ time: await measure(data) });
  } catch (error) {
    postMessage({ error: `${error.message}\n${error.stack}` });
  }
};
