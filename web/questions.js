// Asking: one number, many, or a range. Whatever node is in use answers; what it leaves open, another one is asked.

import { sleep } from './connection.js';

const LONGEST_MS = '300000';
const ATTEMPTS_SAME_NODE = 4;
const RETRY_MS = 500;
const BUSY = new Set([429, 503]);
const BUSY_CODES = new Set(['unavailable', 'resource_exhausted']);
// A browser sends all of a request before it reads the answer, and a proxy may take no more than 1 MB.
const PORTION_CHARS = 256 * 1024;
const LINES = 'application/x-ndjson';

/** What a node says instead of an answer. With a `wait`, it may say something else after so many milliseconds. */
class Refusal extends Error {
  constructor(message, wait) {
    super(message);
    this.wait = wait;
  }
}

/** Whether a number is prime; throws an error with words for people. */
export function check(connection, number, signal) {
  const body = JSON.stringify({ number });
  return untilAnswered(connection, signal, async (request) => {
    return (await request('prime', post('application/json', body))).json();
  });
}

/** The `next` or the `previous` prime. */
export function neighbour(connection, number, which, signal) {
  return untilAnswered(connection, signal, async (request) => {
    return (await request(`prime/${number}/${which}`, { headers: { 'Connect-Timeout-Ms': LONGEST_MS } })).json();
  });
}

/** Asks for all numbers in one streamed request, or in a few if they are long; tells `settle` the line of each. */
export async function checkMany(connection, numbers, signal, settle) {
  for (const portion of portions(numbers)) await checkPortion(connection, portion, signal, settle);
}

function* portions(numbers) {
  let portion = [];
  let chars = 0;
  for (const entry of numbers) {
    if (chars > 0 && chars + entry.number.length > PORTION_CHARS) {
      yield portion;
      [portion, chars] = [[], 0];
    }
    portion.push(entry);
    chars += entry.number.length;
  }
  if (portion.length > 0) yield portion;
}

/** Numbers that were not answered because a node was busy are asked again, after the others. */
async function checkPortion(connection, portion, signal, settle) {
  let open = portion;
  for (let attempt = 1; open.length > 0; attempt++) {
    const busy = [];
    const isLast = attempt === ATTEMPTS_SAME_NODE;
    await eachAnswer(connection, open, signal, (entry, line) => {
      if (!isLast && BUSY_CODES.has(line.error?.code)) busy.push(entry);
      else settle(entry.index, line);
    });
    open = busy;
    if (open.length > 0) await sleep(RETRY_MS);
  }
}

function eachAnswer(connection, entries, signal, take) {
  let place = 0;
  return untilAnswered(connection, signal, async (request, progressed) => {
    const body = entries.slice(place).map(({ number }) => `"${number}"`).join('\n');
    const response = await request('primes', post(LINES, body));
    return eachLine(response, (lines) => {
      for (const line of lines) take(entries[place++], line);
      progressed();
    }, () => place === entries.length);
  });
}

/** Counts a range; tells `show` how far it came, and the segments that were done since. */
export function count(connection, { from, to }, signal, show) {
  let [next, total] = [from, 0n];
  return untilAnswered(connection, signal, async (request, progressed) => {
    if (next > to) return;
    const before = total;
    const response = await request(`primes/count?from=${next}&to=${to}`, { headers: { Accept: LINES } });
    await eachLine(response, (lines) => {
      for (const line of lines.filter((line) => line.counted_to)) {
        [next, total] = [BigInt(line.counted_to) + 1n, before + BigInt(line.count)];
        show({ next, total, segments: line.segments });
      }
      progressed();
    }, () => next > to);
  });
}

/** Lists the primes of a range; tells `show` some at a time, as texts. */
export function list(connection, { from, to }, signal, show) {
  let next = from;
  return untilAnswered(connection, signal, async (request, progressed) => {
    if (next > to) return;
    const response = await request(`primes?from=${next}&to=${to}`, { headers: { Accept: LINES } });
    await eachLine(response, (lines) => {
      const last = lines.at(-1);
      next = BigInt(last.prime ?? last.listed_to) + 1n;
      show(lines.flatMap(({ prime }) => prime ?? []));
      progressed();
    });
  });
}

function post(type, body) {
  return { method: 'POST', headers: { 'Content-Type': type, 'Connect-Timeout-Ms': LONGEST_MS }, body };
}

/** Tries until it succeeds, over whichever node is in use, and gives up when one node fails time and again. */
async function untilAnswered(connection, signal, attempt) {
  let node = null;
  let attempts = 0;
  for (;;) {
    const attachment = await connection.ready(signal);
    attempts = attachment.node === node ? attempts + 1 : 1;
    node = attachment.node;
    try {
      return await attempt(requester(attachment, signal), () => (attempts = 0));
    } catch (error) {
      signal.throwIfAborted();
      if (attachment.signal.aborted) continue;
      await sleep(pauseAfter(error, attempts, connection, attachment));
    }
  }
}

/** How long to wait before the next attempt; throws if there is no point in one. */
function pauseAfter(error, attempts, connection, attachment) {
  const isRefusal = error instanceof Refusal;
  if (!isRefusal) void connection.doubt(attachment);
  if (isRefusal && error.wait === 0) throw error;
  if (attempts < ATTEMPTS_SAME_NODE) return isRefusal ? error.wait : RETRY_MS;
  throw isRefusal ? error : new Error(`${attachment.node.name} is up, but no answer came back${error.status ?? ''}.`);
}

function requester(attachment, signal) {
  const either = AbortSignal.any([signal, attachment.signal]);
  return async (path, options) => {
    const response = await fetch(`${attachment.node.base}/${path}`, { ...options, cache: 'no-store', signal: either });
    if (!response.ok) throw await failureIn(response);
    return response;
  };
}

/** A proxy's own page is no refusal of the node. */
async function failureIn(response) {
  const problem = await response.json().catch(() => null);
  if (!problem) return Object.assign(new Error(), { status: ` (${response.status})` });
  const wait = BUSY.has(response.status) ? Number(response.headers.get('Retry-After')) * 1000 || RETRY_MS : 0;
  return new Refusal(problem.detail ?? response.statusText, wait);
}

/** Takes the lines of an answer, as many at a time as there are, until the last one. A stream that is cut off has none. */
async function eachLine(response, take, isComplete = () => false) {
  const texts = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ''; ; ) {
    const { value, done } = await texts.read();
    if (done) break;
    const whole = (rest + value).split('\n');
    rest = whole.pop();
    const lines = whole.filter((text) => text !== '').map((text) => JSON.parse(text));
    const last = lines.at(-1)?.done === undefined ? null : lines.pop();
    if (lines.length > 0) take(lines);
    if (last?.done) return;
    if (last) throw new Refusal(last.error?.detail ?? 'The node stopped before the end.', RETRY_MS);
  }
  if (!isComplete()) throw new Error('cut off');
}
