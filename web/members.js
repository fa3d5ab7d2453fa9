// The members as cards.

import { webAddress } from './connection.js';
import { byId, element, icon, setText, svgElement } from './dom.js';
import { grouped, percent } from './text.js';
import { colourClass, swatch } from './workers.js';

const SPAN_S = 60;
const CHART_HEIGHT = 24;
const SCALE_LEAST = 10;
const now = () => Math.floor(performance.now() / 1000);

/** Checks that were finished, by second. */
class Throughput {
  #bySecond = new Map();

  add(checks) {
    const second = now();
    this.#bySecond.set(second, (this.#bySecond.get(second) ?? 0) + checks);
    for (const old of this.#bySecond.keys()) if (old < second - SPAN_S) this.#bySecond.delete(old);
  }

  /** The last whole seconds, the oldest first. */
  lastMinute() {
    const first = now() - SPAN_S;
    return Array.from({ length: SPAN_S }, (_, index) => this.#bySecond.get(first + index) ?? 0);
  }
}

/** One member and its card. */
class Member {
  throughput = new Throughput();
  /** Checks that it finished since the page was opened. */
  done = 0;
  completed = null;
  card;
  #parts;

  constructor(name) {
    const part = (tag, name) => element(tag, { class: name });
    const parts = {
      badge: part('span', 'role'),
      status: part('span', 'status'),
      inFlight: element('dd'),
      rate: element('dd'),
      share: element('dd'),
      filled: part('span', `filled ${colourClass(name)}`),
      address: part('p', 'address'),
      line: svgElement('path', { class: 'line' }),
      area: svgElement('path', { class: 'area' }),
    };
    const fact = (label, value, title) =>
      element('div', { title }, element('dt', {}, label), value);
    parts.chart = svgElement(
      'svg',
      { class: 'chart', role: 'img', viewBox: `0 0 ${SPAN_S - 1} ${CHART_HEIGHT}`, preserveAspectRatio: 'none' },
      parts.area,
      parts.line,
    );
    this.card = element(
      'article',
      { class: 'member', 'data-name': name, 'aria-label': name },
      element('header', {}, element('h3', {}, swatch(name), name), parts.badge),
      parts.status,
      element(
        'dl',
        {},
        fact('in flight', parts.inFlight, 'Checks that it holds now'),
        fact('checks/s', parts.rate, 'Checks that it finished in the last second'),
        fact('share', parts.share, 'Its share of the checks since this page was opened, or of all until there are some'),
      ),
      element('div', { class: 'share-bar', 'aria-hidden': 'true' }, parts.filled),
      parts.chart,
      parts.address,
    );
    this.#parts = parts;
  }

  describe({ role, status, http_addr, grpc_addr, scheme }, isLeader) {
    this.card.dataset.role = role;
    this.card.dataset.leads = String(isLeader);
    this.#parts.badge.replaceChildren(...(isLeader ? [icon('leader'), 'leader'] : [role]));
    if (this.card.dataset.status !== status) this.#parts.status.replaceChildren(icon(status), status);
    this.card.dataset.status = status;
    this.#parts.address.replaceChildren(...addressParts({ http_addr, scheme }, grpc_addr));
  }

  /** A counter that fell means that the member began anew, unless it is another node that tells us now. */
  count({ in_flight, completed }, otherObserver) {
    const fell = completed < this.completed;
    const finished = this.completed === null || (fell && otherObserver) ? 0 : fell ? completed : completed - this.completed;
    this.completed = completed;
    this.done += finished;
    if (finished > 0 && !otherObserver) this.throughput.add(finished);
    setText(this.#parts.inFlight, grouped(in_flight));
  }

  showShare(share) {
    setText(this.#parts.share, share === null ? '–' : percent(share));
    this.#parts.filled.style.transform = `scaleX(${share ?? 0})`;
  }

  drawChart(scale) {
    const counts = this.throughput.lastMinute();
    const y = (checks) => (CHART_HEIGHT - 1 - (checks / scale) * (CHART_HEIGHT - 2)).toFixed(2);
    const line = counts.map((checks, x) => `${x === 0 ? 'M' : 'L'}${x} ${y(checks)}`).join('');
    this.#parts.line.setAttribute('d', line);
    this.#parts.area.setAttribute('d', `${line}V${CHART_HEIGHT}H0z`);
    const peak = `Checks a second over the last minute, at most ${grouped(Math.max(...counts))}`;
    this.#parts.chart.setAttribute('aria-label', peak);
    setText(this.#parts.rate, grouped(counts.at(-1)));
  }
}

function addressParts(member, grpcAddress) {
  const http = member.http_addr
    ? element('a', { href: `${webAddress(member)}/` }, member.http_addr)
    : element('span', {}, 'address not learnt yet');
  return ['HTTP ', http, element('br'), `gRPC ${grpcAddress}`];
}

/** All members. */
export class Members {
  #byName = new Map();
  #observer = '';

  constructor() {
    setInterval(() => this.#drawCharts(), 1000);
  }

  showCluster(cluster) {
    const otherObserver = cluster.observed_by !== this.#observer;
    this.#observer = cluster.observed_by;
    this.#forgetAllBut(new Set(cluster.members.map((member) => member.name)));
    // The leader stands first at the beginning; after that nobody changes place.
    for (const member of cluster.members.toSorted((a, b) => (b.role === 'leader') - (a.role === 'leader'))) {
      const shown = this.#member(member.name);
      shown.describe(member, cluster.leader?.name === member.name && member.status !== 'dead');
      shown.count(member, otherObserver);
    }
    this.#drawShares();
  }

  showStats({ members }) {
    for (const stats of members) this.#byName.get(stats.name)?.count(stats, false);
    this.#drawShares();
  }

  #member(name) {
    if (!this.#byName.has(name)) {
      const member = new Member(name);
      member.drawChart(SCALE_LEAST);
      this.#byName.set(name, member);
      byId('members').append(member.card);
    }
    return this.#byName.get(name);
  }

  #forgetAllBut(names) {
    for (const [name, member] of this.#byName) {
      if (names.has(name)) continue;
      member.card.remove();
      this.#byName.delete(name);
    }
  }

  #drawShares() {
    const members = [...this.#byName.values()];
    const total = (of) => members.reduce((sum, member) => sum + of(member), 0);
    const of = total((member) => member.done) > 0 ? (member) => member.done : (member) => member.completed;
    const all = total(of);
    for (const member of members) member.showShare(all > 0 ? of(member) / all : null);
  }

  /** One scale for all, so that the charts can be compared. */
  #drawCharts() {
    const members = [...this.#byName.values()];
    const scale = Math.max(SCALE_LEAST, ...members.flatMap((member) => member.throughput.lastMinute()));
    for (const member of members) member.drawChart(scale);
  }
}
