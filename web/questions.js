// Asking: one number, or many.

import { sleep } from './connection.js';

// A browser keeps six connections to a host. The events and the looks at the node take two, and must never wait behind
// a check of minutes; one is for the single question.
const MANY_AT_ONCE = 3;
const LONGEST_MS = '300000';
const ATTEMPTS_SAME_NODE = 4;
const RETRY_MS = 500;
const BUSY = new Set([429, 503]);

/** Asks until an answer or a refusal comes, over whichever node is in use; throws an error with words for people. */
export async function check(connection, number, signal) {
  let node = null;
  let attempts = 0;
  for (;;) {
    const attachment = await connection.ready(signal);
    attempts = attachment.node === node ? attempts + 1 : 1;
    node = attachment.node;
    const { answer, problem, wait } = await askOnce(connection, attachment, number, signal);
    if (answer) return answer;
    if (problem && (wait === 0 || attempts >= ATTEMPTS_SAME_NODE)) throw new Error(problem);
    await sleep(wait);
  }
}

async function askOnce(connection, attachment, number, signal) {
  let status = '';
  try {
    const response = await post(attachment, number, signal);
    status = ` (${response.status})`;
    const body = await response.json();
    if (response.ok) return { answer: body };
    const wait = BUSY.has(response.status) ? Number(response.headers.get('Retry-After')) * 1000 || RETRY_MS : 0;
    return { problem: body.detail ?? response.statusText, wait };
  } catch {
    signal.throwIfAborted();
    if (attachment.signal.aborted) return { wait: 0 };
    void connection.doubt(attachment);
    return { problem: `${attachment.node.name} is up, but no answer came back${status}.`, wait: RETRY_MS };
  }
}

function post(attachment, number, signal) {
  return fetch(`${attachment.node.base}/prime`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Connect-Timeout-Ms': LONGEST_MS },
    body: JSON.stringify({ number }),
    signal: AbortSignal.any([signal, attachment.signal]),
  });
}

/** Runs a task for each index, a few at once; stops beginning new ones when aborted. */
export async function forEachIndex(length, signal, task) {
  let next = 0;
  const lane = async () => {
    while (next < length && !signal.aborted) await task(next++);
  };
  await Promise.all(Array.from({ length: MANY_AT_ONCE }, lane));
}
