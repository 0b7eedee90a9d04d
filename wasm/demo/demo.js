// The page: it shows what the worker's store holds, and what the log says of itself.

const at = (id) => document.getElementById(id);
const say = (text) => (at('said').textContent = text);

let worker;
let waiting = new Map();
let count = 0;
/** The last LSN that the log has acknowledged, as this page was told: the page lives on when the worker dies. */
let acknowledged = 0n;

function start() {
  worker = new Worker('./notes.js', { type: 'module' });
  worker.onmessage = ({ data }) => {
    if ('acknowledged' in data) {
      acknowledged = data.acknowledged;
      return say(`acknowledged up to LSN ${acknowledged}`);
    }
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if ('error' in data) reject(new Error(data.error));
    else resolve(data.value);
  };
}

const ask = (call, ...args) =>
  new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    worker.postMessage({ id: count, call, args });
  });

const bytes = (count) => (count === undefined ? '' : count < 1 << 20 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / (1 << 20)).toFixed(1)} MiB`);

function list(id, pairs) {
  at(id).replaceChildren(
    ...Object.entries(pairs).flatMap(([name, value]) => [
      Object.assign(document.createElement('dt'), { textContent: name }),
      Object.assign(document.createElement('dd'), { textContent: String(value) }),
    ]),
  );
}

async function look() {
  const { size, currentLsn, syncedLsn, totalSegments, totalSizeBytes, syncs, usage, persisted, newest } = await ask('look');
  list('figures', {
    notes: size,
    'next LSN': currentLsn,
    'durable LSN': syncedLsn,
    segments: `${totalSegments}, ${bytes(totalSizeBytes)}`,
    'syncs since opening': syncs,
    'this site uses': bytes(usage),
    'kept by the browser': persisted ? 'promised' : 'not promised',
  });
  at('notes').replaceChildren(...newest.map(({ lsn, content }) => Object.assign(document.createElement('li'), { textContent: `${lsn}: ${content}` })));
}

function report(found) {
  list('report', {
    'log id': found.logId,
    epoch: found.epoch,
    'entries recovered': found.entriesRecovered,
    'last LSN': found.lastValidLsn,
    'proved to be durable': found.durableLsn,
    verified: found.verified ? `${found.verified.first} to ${found.verified.last}` : 'nothing',
    checkpoint: found.checkpointUsed ? `at LSN ${found.checkpointUsed.lsn}` : 'none',
    'torn tail': found.tornTail ? `${found.tornTail.bytes} bytes, cut off` : 'none',
    'was closed': found.closed ? 'yes' : 'no',
    damage: found.success ? 'none' : 'see below',
  });
  at('findings').replaceChildren(...found.findings.map(({ message }) => Object.assign(document.createElement('li'), { textContent: message })));
}

/** Does something, and shows where it leads. */
const does = (run) => async (event) => {
  event?.preventDefault();
  try {
    await run();
    await look();
  } catch (error) {
    say(error.message);
  }
};

at('add').onsubmit = does(async () => {
  const { lsn, durability } = await ask('add', at('text').value);
  acknowledged = lsn;
  at('text').value = '';
  say(`LSN ${lsn} is ${durability}`);
});

at('many').onclick = does(async () => {
  const begun = performance.now();
  await ask('many', 1000);
  say(`1,000 notes, each acknowledged by itself, in ${Math.round(performance.now() - begun)} ms`);
});

at('kill').onclick = does(async () => {
  ask('many', 1000).catch(() => {});
  const from = acknowledged;
  // In the middle: once some hundred of them are acknowledged.
  while (acknowledged < from + 300n) await new Promise(requestAnimationFrame);
  worker.terminate();
  waiting = new Map();
  const told = acknowledged;
  start();
  const found = await ask('open');
  report(found);
  const kept = found.lastValidLsn >= told;
  acknowledged = found.lastValidLsn;
  say(`The worker was killed when LSN ${told} was the last acknowledged; the log goes on from LSN ${found.lastValidLsn}: ${kept ? 'nothing acknowledged is lost' : 'ENTRIES ARE LOST'}.`);
});

at('checkpoint').onclick = does(async () => say(`checkpoint ${await ask('checkpoint')}: the next opening begins there`));

at('verify').onclick = does(async () => {
  const found = await ask('verify');
  report(found);
  say(found.clean ? 'every entry was read and verified' : 'not all is as it should be: see the report');
});

at('export').onclick = does(async () => {
  const blob = await ask('export');
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: 'notes.tar' });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
  say(`exported ${bytes(blob.size)}: duralog unpack notes.tar FOLDER opens it natively`);
});

at('import').onchange = does(async () => {
  const [file] = at('import').files;
  at('import').value = '';
  if (!file || !confirm('The notes that are here are replaced.')) return;
  report(await ask('import', file));
  say('imported');
});

start();
does(async () => {
  const found = await ask('open');
  acknowledged = found.lastValidLsn;
  report(found);
  say(found.created ? 'A new log: add a note.' : `Recovered up to LSN ${found.lastValidLsn}.`);
})();
