// Many numbers and their answers.

import { byId, copy, element, icon, numberElement, setText, verdictElement } from './dom.js';
import { checkMany } from './questions.js';
import { digitsIn } from './reading.js';
import { certaintyExplained, counted, duration, grouped } from './text.js';
import { Legend, swatch } from './workers.js';

// Ten thousand rows would make every frame slow.
const ROWS_SHOWN = 100;
const DRAW_EVERY_MS = 100;

let batch = null;

export function prepareMany() {
  byId('many-copy').addEventListener('click', ({ currentTarget }) => copy(batch.text(), currentTarget));
  byId('many-earlier').addEventListener('click', () => batch.turn(-1));
  byId('many-later').addEventListener('click', () => batch.turn(1));
}

export async function askMany(connection, written, signal) {
  batch?.abandon();
  const mine = (batch = new Batch(written));
  try {
    await checkMany(connection, mine.askable(), signal, (index, line) => mine.settle(index, line));
    mine.finish('');
  } catch (error) {
    if (!signal.aborted) mine.finish(`; ${error.message}`);
    else if (signal.reason === 'stopped') mine.finish(', then stopped');
  }
}

/** The count runs for the eye only; news is also read aloud, at the beginning and at the end. */
function showProgress(count, news) {
  setText(byId('many-count'), count);
  setText(byId('many-news'), news);
  byId('many-news').classList.toggle('visually-hidden', count !== '');
}

/** The numbers of one go, what came of them, and the page of them that is shown. */
class Batch {
  #written;
  #lines = [];
  #tally = { prime: 0, composite: 0, refused: 0 };
  #startedAt = performance.now();
  #drawing = 0;
  #first = 0;
  #rows = [];
  #legend = new Legend(byId('many-legend'));

  constructor(written) {
    this.#written = written;
    byId('many').hidden = false;
    byId('many-bar').max = written.length;
    byId('many-copy').hidden = true;
    byId('many-pages').hidden = written.length <= ROWS_SHOWN;
    this.#showRows();
    this.#draw();
  }

  /** Those that are numbers, in digits. */
  *askable() {
    for (const [index, text] of this.#written.entries()) {
      const { number, detail } = understood(text);
      if (number) yield { index, number };
      else this.settle(index, { error: { detail } });
    }
  }

  settle(index, line) {
    this.#lines[index] = line;
    this.#tally[kindOf(line)] += 1;
    if (line.processed_by) this.#legend.add(line.processed_by, 1);
    this.#rows[index - this.#first]?.replaceChildren(...rowParts(this.#written[index], line));
    this.#drawing ||= setTimeout(() => this.#draw(), DRAW_EVERY_MS);
  }

  finish(how) {
    this.abandon();
    this.#draw();
    const { prime, composite, refused } = this.#tally;
    const parts = [`${grouped(prime)} prime`, `${grouped(composite)} not`];
    if (refused > 0) parts.push(`${grouped(refused)} without an answer`);
    const took = duration(performance.now() - this.#startedAt);
    showProgress('', `${this.#progress()}${how}: ${parts.join(', ')}; ${took}`);
    byId('many-copy').hidden = false;
  }

  turn(pages) {
    const first = this.#first + pages * ROWS_SHOWN;
    if (first < 0 || first >= this.#written.length) return;
    this.#first = first;
    this.#showRows();
  }

  /** A line for each number, as a spreadsheet takes it. */
  text() {
    return this.#written.map((text, index) => [text, ...words(this.#lines[index])].join('\t')).join('\n');
  }

  /** What is still to be drawn of an abandoned go must not overwrite the next one. */
  abandon() {
    clearTimeout(this.#drawing);
  }

  #showRows() {
    const after = Math.min(this.#first + ROWS_SHOWN, this.#written.length);
    this.#rows = this.#written
      .slice(this.#first, after)
      .map((text, offset) => element('li', {}, ...rowParts(text, this.#lines[this.#first + offset])));
    byId('many-results').start = this.#first + 1;
    byId('many-results').replaceChildren(...this.#rows);
    byId('many-results').scrollTop = 0;
    setText(byId('many-range'), `${grouped(this.#first + 1)} to ${grouped(after)}`);
    byId('many-earlier').setAttribute('aria-disabled', String(this.#first === 0));
    byId('many-later').setAttribute('aria-disabled', String(after === this.#written.length));
  }

  #done() {
    return this.#tally.prime + this.#tally.composite + this.#tally.refused;
  }

  #progress() {
    return `${grouped(this.#done())} of ${grouped(this.#written.length)}`;
  }

  #draw() {
    this.#drawing = 0;
    showProgress(this.#progress(), `Asking ${counted(this.#written.length, 'number')}.`);
    byId('many-bar').value = this.#done();
    this.#legend.draw();
  }
}

function understood(text) {
  try {
    return { number: digitsIn(text) };
  } catch (error) {
    return { detail: error.message };
  }
}

function kindOf(line) {
  if (line.error) return 'refused';
  return line.is_prime ? 'prime' : 'composite';
}

function rowParts(text, line) {
  const number = writtenAndNumber(text, line?.number ?? text);
  if (!line) return [number];
  if (line.error) return [number, element('span', { class: 'verdict refused' }, icon('suspect'), line.error.detail)];
  const how = element('span', { class: 'how', title: certaintyExplained(line) }, swatch(line.processed_by));
  how.append(`${line.processed_by} · ${line.certainty}`);
  return [number, verdictElement(line.is_prime), how];
}

function writtenAndNumber(text, number) {
  if (text === number) return numberElement(text);
  return element('span', {}, element('span', { class: 'number' }, text), ' = ', numberElement(number));
}

function words(line) {
  if (!line) return ['not asked'];
  if (line.error) return [line.error.detail];
  return [line.is_prime ? 'prime' : 'not prime', line.processed_by, line.certainty];
}
