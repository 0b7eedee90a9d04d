// Runs in a page or a worker: appends without end, and checks what is there. The n-th append is `n` and bytes that follow
// from it; every tenth is a batch of three, every seventh a transaction of two.

import { Log } from '/node_modules/duralog/index.js';

const SIZE = 700;
const SMALL_SEGMENTS = 1 << 18;

export function payload(group, index, of) {
  const bytes = new Uint8Array(SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, group);
  view.setUint8(4, index);
  view.setUint8(5, of);
  for (let at = 6; at < SIZE; at++) bytes[at] = (group * 31 + index * 7 + at) & 255;
  return bytes;
}

/** Opens the log, checks all of it, and appends from there on; `acknowledge` is told of each group that is durable. */
export async function write(device, name, acknowledge) {
  const log = await Log.open(name, { device, segmentSize: SMALL_SEGMENTS });
  const { groups } = await check(log);
  const report = log.recoveryReport();
  let group = groups;
  const one = async () => {
    for (;;) {
      const mine = group++;
      if (mine % 10 === 0) await log.appendBatch([0, 1, 2].map((index) => payload(mine, index, 3)));
      else if (mine % 7 === 0) {
        await log.transaction(async (tx) => {
          await tx.append(payload(mine, 0, 2));
          await tx.append(payload(mine, 1, 2));
        });
      } else await log.append(payload(mine, 0, 1));
      acknowledge(mine);
    }
  };
  // One writer: groups are acknowledged in order.
  one().catch((error) => acknowledge(`${error.code}: ${error.message}`));
  return { groups, clean: report.clean, created: report.created };
}

/** Reads everything that counts: whole groups, one after the other, every byte as it was written. */
export async function check(log) {
  let groups = 0;
  let within = 0;
  for await (const { bytes } of log.read({ counting: true })) {
    const expected = payload(groups, within, bytes[5]);
    if (bytes.length !== SIZE || bytes.some((byte, at) => byte !== expected[at])) {
      throw new Error(`group ${groups}, entry ${within} is not what was written`);
    }
    if (++within === bytes[5]) {
      groups++;
      within = 0;
    }
  }
  if (within) throw new Error(`group ${groups} is there in part`);
  return { groups };
}

export async function look(device, name) {
  const log = await Log.open(name, { device, segmentSize: SMALL_SEGMENTS, fullCheck: true });
  const { groups } = await check(log);
  const { findings, success } = log.recoveryReport();
  await log.close();
  return { groups, success, findings: findings.filter(({ harmless }) => !harmless).length };
}

if (typeof WorkerGlobalScope !== 'undefined') {
  onmessage = async ({ data: { device, name } }) => {
    try {
      postMessage({ begun: await write(device, name, (group) => postMessage({ group })) });
    } catch (error) {
      postMessage({ group: `${error.code}: ${error.message}` });
    }
  };
}
