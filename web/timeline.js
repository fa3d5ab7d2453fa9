// What happened to whom, and why.

import { byId, element, icon, setText } from './dom.js';
import { clock, duration } from './text.js';

const KEPT = 100;
const ELECTIONS_SHOWN = 5;
// Two observers see the same change at slightly different times.
const SKEW_MS = 1000;
const BACK_FROM = new Set(['dead', 'stopped']);

const keyOf = ({ at, name, change }) => `${at} ${name} ${change}`;
const aboutLeading = ({ change }) => change.startsWith('leader');
const newestFirst = (a, b) => b.at - a.at;
const timeOf = ({ at }) => element('time', { datetime: new Date(at).toISOString() }, clock(at));

/** A hand-over takes no time. */
function electionText({ name, reason, duration_ms }) {
  const verb = reason.startsWith('took over') ? '' : 'leads: ';
  return `${name} ${verb}${reason}${duration_ms > 0 ? `, ${duration(duration_ms)}` : ''}`;
}

export class Timeline {
  #changes = [];
  #moves = [];
  #seen = null;
  #observer = '';

  showCluster({ recent, observed_by }) {
    // What another observer told is kept where this one's memory does not reach.
    const oldest = recent.at(-1)?.at ?? Infinity;
    this.#changes = [...recent, ...this.#changes.filter((change) => change.at < oldest - SKEW_MS)].slice(0, KEPT);
    const sameObserver = this.#observer === observed_by;
    this.#observer = observed_by;
    this.#draw(sameObserver);
  }

  /** Something that happened to this page itself. */
  addMove(headline, reason) {
    this.#moves = [{ at: Date.now(), name: '', change: headline, reason, page: true }, ...this.#moves].slice(0, KEPT);
    this.#draw(false);
  }

  #draw(announce) {
    const all = [...this.#changes, ...this.#moves].sort(newestFirst);
    const isNew = (change) => this.#seen !== null && !this.#seen.has(keyOf(change));
    byId('timeline').replaceChildren(...all.map((change) => this.#row(change, isNew(change))));
    const elections = this.#changes.filter(({ change }) => change === 'leader').slice(0, ELECTIONS_SHOWN);
    byId('elections').replaceChildren(...elections.map((change) => element('li', {}, timeOf(change), electionText(change))));
    const news = announce ? this.#changes.filter(isNew).reverse() : [];
    const spoken = news.map((change) => `${this.#headline(change)}: ${change.reason}.`);
    if (news.length > 0) setText(byId('announcer'), spoken.join(' '));
    if (this.#changes.length > 0) this.#seen = new Set(all.map(keyOf));
  }

  #row(change, isNew) {
    const kind = change.page ? 'page' : change.change.replace(' ', '-');
    const before = change.page ? '' : this.#stateBefore(change);
    return element(
      'li',
      { class: isNew ? 'new' : '', 'data-change': change.page ? 'page' : change.change },
      timeOf(change),
      icon(kind),
      element('p', {}, element('strong', {}, this.#headline(change)), element('span', { class: 'why' }, change.reason + before)),
    );
  }

  #headline(change) {
    if (change.page) return change.change;
    const before = this.#before(change);
    switch (change.change) {
      case 'alive':
        return BACK_FROM.has(before?.change) ? `${change.name} is alive again` : `${change.name} is alive`;
      case 'suspect':
        return `${change.name} is suspected`;
      case 'dead':
        return `${change.name} is dead`;
      case 'stopped':
        return `${change.name} stopped`;
      case 'leader':
        return `${change.name} leads${before?.name === change.name ? ' again' : ''}`;
      case 'leader lost':
        return `Leader lost: ${change.name}`;
      default:
        return `${change.name} ${change.change}`;
    }
  }

  /** The change of the same kind before this one: of the member, or of the leader. */
  #before(change) {
    const index = this.#changes.indexOf(change);
    return this.#changes
      .slice(index + 1)
      .find((other) => aboutLeading(other) === aboutLeading(change) && (aboutLeading(change) || other.name === change.name));
  }

  #stateBefore(change) {
    if (change.duration_ms === 0) return '';
    const state = this.#before(change)?.change;
    const lasted = duration(change.duration_ms);
    if (change.change === 'leader') return state ? `; no leader for ${lasted}` : '';
    if (change.change === 'leader lost') return `; it had led for ${lasted}`;
    return state ? `; was ${state} for ${lasted}` : `; after ${lasted}`;
  }
}
