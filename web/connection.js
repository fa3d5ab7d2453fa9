// Which node the page talks to. When that node dies or hangs, the page goes on with another by itself.

const ANSWER_MS = 1500;
const LOOK_EVERY_MS = 1000;
// A stream says something each second.
const SILENCE_MS = 2000;
const REOPEN_MS = 5000;
const BACKOFF_MS = 250;
const BACKOFF_MAX_MS = 3000;
const ASKED_AT_ONCE = 4;

/** A page that came over TLS reaches nothing else. */
export const webAddress = ({ http_addr, scheme }) =>
  `${location.protocol === 'https:' ? 'https' : scheme || 'http'}://${http_addr}`;

export const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Emits `state`, `told`, and what the node tells: `cluster`, `stats`, `results`, with the data as `detail`. */
export class Connection extends EventTarget {
  state = 'searching';
  /** Whether the node's events come; if not, it is asked each second. */
  isTold = true;
  /** The node in use, or the last one that was. */
  node;
  /** The node that was left for the current one. */
  left = null;
  #origin;
  #members = [];
  #unreachable = new Set();
  #attachment = null;

  /** `base` is where the page is, without a slash at the end: a proxy may have put it below a path. */
  constructor(base) {
    super();
    this.#origin = { base, name: '' };
    this.node = this.#origin;
    // The policy was made when the page was loaded; a member that joined later is not in it.
    document.addEventListener('securitypolicyviolation', ({ blockedURI }) => {
      if (URL.canParse(blockedURI)) this.#unreachable.add(new URL(blockedURI).origin);
    });
    void this.#search();
  }

  /** The node in use, with a signal that is aborted when it is left; waits for one if there is none. */
  async ready(signal) {
    while (!this.#attachment) {
      await sleep(50);
      signal.throwIfAborted();
    }
    return this.#attachment;
  }

  /** A request to the node failed: it is looked at now rather than at the next turn. */
  async doubt(attachment) {
    await get(attachment.node.base, 'readyz').catch(() => this.#leave(attachment));
  }

  async #search() {
    for (let round = 0; ; round++) {
      const nodes = this.#candidates();
      while (nodes.length > 0) {
        const asked = nodes.splice(0, ASKED_AT_ONCE).map(found);
        const first = await Promise.any(asked).catch(() => null);
        if (first) return this.#attach(first);
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
    return member.name === this.#origin.name ? this.#origin.base : webAddress(member);
  }

  #attach({ base, cluster }) {
    const leaving = new AbortController();
    const node = { base, name: cluster.observed_by };
    const heardAt = performance.now();
    const attachment = { node, signal: leaving.signal, leaving, heardAt, askedAt: 0, isLate: false };
    if (this.#origin.name === '' && base === this.#origin.base) this.#origin.name = node.name;
    this.left = this.node.base === base || this.node.name === '' ? null : this.node;
    this.node = node;
    this.#attachment = attachment;
    this.isTold = true;
    this.#become('connected');
    this.#show('cluster', cluster);
    this.#listen(attachment);
    void this.#watch(attachment);
  }

  #listen(attachment) {
    if (attachment.signal.aborted) return;
    const source = new EventSource(`${attachment.node.base}/events`);
    attachment.signal.addEventListener('abort', () => source.close());
    for (const kind of ['cluster', 'stats', 'results', 'alive']) {
      source.addEventListener(kind, ({ data }) => this.#hear(attachment, kind, JSON.parse(data)));
    }
    source.addEventListener('error', () => {
      void this.doubt(attachment);
      // A browser comes back by itself to a stream that ended, but not to one that was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.#listen(attachment), REOPEN_MS);
    });
  }

  /** Events that were held back on the way are older than what was asked for meanwhile. */
  #hear(attachment, kind, data) {
    if (data.observed_at) attachment.isLate = data.observed_at < attachment.askedAt;
    if (attachment.isLate) return;
    attachment.heardAt = performance.now();
    if (kind !== 'alive') this.#show(kind, data);
  }

  #show(kind, data) {
    if (kind === 'cluster') this.#members = data.members;
    this.dispatchEvent(new CustomEvent(kind, { detail: data }));
  }

  /** A node that hangs keeps its streams open, and a proxy may hold the events back. */
  async #watch(attachment) {
    for (;;) {
      await sleep(LOOK_EVERY_MS);
      const isTold = performance.now() - attachment.heardAt < SILENCE_MS;
      if (!isTold) await this.#ask(attachment);
      if (attachment.signal.aborted) return;
      if (isTold === this.isTold) continue;
      this.isTold = isTold;
      this.dispatchEvent(new Event('told'));
    }
  }

  async #ask(attachment) {
    const { base } = attachment.node;
    try {
      const cluster = await getJson(base, 'cluster');
      const results = await getJson(base, 'results?limit=20');
      if (attachment.signal.aborted) return;
      attachment.askedAt = cluster.observed_at;
      this.#show('cluster', cluster);
      this.#show('results', results);
    } catch (error) {
      if (error.name === 'TimeoutError') this.#leave(attachment);
      else await this.doubt(attachment);
    }
  }

  #leave(attachment) {
    if (this.#attachment !== attachment) return;
    this.#attachment = null;
    attachment.leaving.abort();
    this.#become('searching');
    void this.#search();
  }

  #become(state) {
    if (this.state === state && state !== 'connected') return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}

/** The view of a node that can answer. */
async function found({ base }) {
  const [cluster] = await Promise.all([getJson(base, 'cluster'), get(base, 'readyz')]);
  return { base, cluster };
}

async function getJson(base, path) {
  return (await get(base, path)).json();
}

async function get(base, path) {
  const answer = await fetch(`${base}/${path}`, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer;
}
