// Which node the page talks to. When that node dies or hangs, the page goes on with another by itself.

const FIRST_EVENT_MS = 1500;
const PROBE_EVERY_MS = 1000;
const PROBE_TIMEOUT_MS = 2000;
const BACKOFF_MS = 250;
const BACKOFF_MAX_MS = 3000;
const EVENTS = ['cluster', 'stats', 'results'];

export const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Emits `state`, and each event of the current node: `cluster`, `stats`, `results`, with the data as `detail`. */
export class Connection extends EventTarget {
  state = 'searching';
  /** The node in use, or the last one that was. */
  node;
  /** The node that was left for the current one. */
  left = null;
  #origin;
  #members = [];
  #unreachable = new Set();
  #attachment = null;

  constructor(base) {
    super();
    this.#origin = { base, name: '' };
    this.node = this.#origin;
    document.addEventListener('securitypolicyviolation', ({ blockedURI }) => this.#avoid(blockedURI));
  }

  start() {
    void this.#search();
  }

  /** The node in use, with a signal that is aborted when it is left; waits for one if there is none. */
  async ready(signal) {
    while (!this.#attachment) await nextEvent(this, 'state', signal);
    return this.#attachment;
  }

  /** A request to the node failed: it is looked at now rather than at the next turn. */
  async doubt(attachment) {
    if (!(await answers(attachment.node))) this.#leave(attachment);
  }

  async #search() {
    for (let round = 0; ; round++) {
      for (const node of this.#candidates()) {
        const opened = await openEvents(node);
        if (opened) return this.#attach(node, opened);
      }
      this.#become('lost');
      await sleep(Math.min(BACKOFF_MS * 2 ** round, BACKOFF_MAX_MS));
    }
  }

  /** Members that were alive, then the others, then the node that just failed. */
  #candidates() {
    const known = this.#members
      .filter((member) => member.http_addr !== '' || member.name === this.#origin.name)
      .map((member) => ({ name: member.name, base: this.#baseOf(member), alive: member.status === 'alive' }));
    if (!known.some((node) => node.base === this.#origin.base)) known.push({ ...this.#origin, alive: false });
    const rank = (node) => (node.base === this.node.base ? 2 : node.alive ? 0 : 1);
    return known.filter((node) => !this.#unreachable.has(node.base)).sort((a, b) => rank(a) - rank(b));
  }

  /** The origin is reached as the browser reached it; what it advertises may be known only among the members. */
  #baseOf(member) {
    return member.name === this.#origin.name ? this.#origin.base : `http://${member.http_addr}`;
  }

  #attach({ base }, { source, cluster }) {
    const leaving = new AbortController();
    const node = { base, name: cluster.observed_by };
    const attachment = { node, signal: leaving.signal, leave: () => leaving.abort(), heardAt: performance.now() };
    leaving.signal.addEventListener('abort', () => source.close());
    if (this.#origin.name === '' && base === this.#origin.base) this.#origin.name = node.name;
    this.left = this.node.base === base || this.node.name === '' ? null : this.node;
    this.node = node;
    this.#attachment = attachment;
    for (const kind of EVENTS) {
      source.addEventListener(kind, ({ data }) => this.#hear(attachment, kind, JSON.parse(data)));
    }
    source.addEventListener('error', () => this.#leave(attachment));
    this.#become('connected');
    this.#hear(attachment, 'cluster', cluster);
    void this.#watch(attachment);
  }

  #hear(attachment, kind, data) {
    attachment.heardAt = performance.now();
    if (kind === 'cluster') this.#members = data.members;
    this.dispatchEvent(new CustomEvent(kind, { detail: data }));
  }

  /** A node that hangs keeps its streams open and says nothing; comments on the stream are invisible here. */
  async #watch(attachment) {
    while (!attachment.signal.aborted) {
      await sleep(PROBE_EVERY_MS);
      const answered = await answers(attachment.node);
      const heardLately = performance.now() - attachment.heardAt < PROBE_TIMEOUT_MS;
      if (!answered && !heardLately) this.#leave(attachment);
    }
  }

  #leave(attachment) {
    if (this.#attachment !== attachment) return;
    this.#attachment = null;
    attachment.leave();
    this.#become('searching');
    void this.#search();
  }

  /** The policy was made when the page was loaded; a member that joined later is not in it. */
  #avoid(blocked) {
    if (URL.canParse(blocked)) this.#unreachable.add(new URL(blocked).origin);
  }

  #become(state) {
    if (this.state === state && state !== 'connected') return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}

/** Opens the events of a node; null unless its first view of the cluster comes in time. */
function openEvents(node) {
  return new Promise((settle) => {
    const source = new EventSource(`${node.base}/events`);
    const giveUp = () => {
      clearTimeout(timer);
      source.close();
      settle(null);
    };
    const timer = setTimeout(giveUp, FIRST_EVENT_MS);
    const accept = ({ data }) => {
      clearTimeout(timer);
      source.removeEventListener('error', giveUp);
      settle({ source, cluster: JSON.parse(data) });
    };
    source.addEventListener('error', giveUp, { once: true });
    source.addEventListener('cluster', accept, { once: true });
  });
}

async function answers({ base }) {
  try {
    await fetch(`${base}/livez`, { cache: 'no-store', signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    return true;
  } catch {
    return false;
  }
}

function nextEvent(target, kind, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    const happen = () => {
      signal.removeEventListener('abort', abort);
      resolve();
    };
    target.addEventListener(kind, happen, { once: true, signal });
  });
}
