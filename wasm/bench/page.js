// The page: runs the table, here or by the command, which calls `bench`.

import { LOAD_ROW, ROWS, measure, measureLoad, prepare, rounds } from './bench.js';

let worker;

/** Measures in this window, or in a worker where the workload says so. */
function run({ worker: inWorker, ...options }) {
  if (options.loader) return measureLoad(options);
  if (!inWorker) return measure(options);
  worker ??= new Worker('./worker.js', { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ('error' in data ? reject(new Error(data.error)) : resolve(data.time));
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(options);
  });
}

const show = ({ title, target, lines }) => {
  const table = document.createElement('table');
  const line = (cells, kind) => {
    const row = table.insertRow();
    for (const cell of cells) row.appendChild(document.createElement(kind)).textContent = cell;
  };
  line([title, target ? `target ${target}` : '', 'least', 'most'], 'th');
  for (const { name, ratio, least, most } of lines) line([name, ...[ratio, least, most].map((value) => value.toFixed(2))], 'td');
  document.querySelector('#results').append(table);
};

globalThis.bench = {
  count: ROWS.length,
  prepare,
  row: async (index, count) => {
    const result = await rounds(ROWS[index], count, run);
    show(result);
    return result;
  },
  load: async (count) => {
    const result = await rounds(LOAD_ROW, count, run);
    show(result);
    return result;
  },
};

const ROUNDS = 5;
const say = (text) => (document.querySelector('#state').textContent = text);

async function whole() {
  for (const [index, { title }] of ROWS.entries()) {
    say(`${index + 1} of ${ROWS.length + 1}: ${title}`);
    await bench.row(index, ROUNDS);
  }
  say('preparing what is loaded after a reload');
  await prepare(ROUNDS);
  location.hash = '#load';
  location.reload();
}

document.querySelector('#run').onclick = () => whole().catch((error) => say(error.message));
if (location.hash === '#load') {
  history.replaceState(null, '', location.pathname);
  say('loading');
  bench.load(ROUNDS).then(() => say('done'), (error) => say(error.message));
}
