// The two forms.

import { byId, copy, element, icon, numberElement, setText, verdictElement } from './dom.js';
import { check, forEachIndex } from './questions.js';
import { certaintyExplained, complaint, counted, digitsOf, duration, grouped } from './text.js';

const MANY_MAX = 20_000;
// Ten thousand rows would make every frame slow.
const ROWS_SHOWN = 100;
const DRAW_EVERY_MS = 100;
const EXAMPLES = [
  ['17'],
  ['561'],
  ['9223372036854775783'],
  ['2¹²⁷ − 1', '170141183460469231731687303715884105727'],
  ['10⁹⁹⁹ + 7', `1${'0'.repeat(998)}7`],
];

export function prepareOne(connection) {
  const form = byId('one-form');
  const field = byId('number');
  let running = new AbortController();

  const ask = async () => {
    running.abort();
    running = new AbortController();
    await askOne(connection, field.value.trim(), running.signal);
  };
  const tryExample = (number) => {
    field.value = number;
    countDigits();
    void ask();
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void ask();
  });
  field.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void ask();
  });
  field.addEventListener('input', countDigits);
  byId('ask-stop').addEventListener('click', () => running.abort());
  byId('examples').append(...EXAMPLES.map((example) => exampleButton(example, tryExample)));
  for (const button of document.querySelectorAll('[data-example]')) {
    button.addEventListener('click', () => tryExample(button.dataset.example));
  }
}

function exampleButton([label, number = label], tryExample) {
  const button = element('button', { type: 'button', class: 'chip' }, label);
  button.addEventListener('click', () => tryExample(number));
  return button;
}

function countDigits() {
  const field = byId('number');
  const text = field.value.trim();
  field.removeAttribute('aria-invalid');
  setText(byId('number-digits'), text === '' ? '' : counted(digitsOf(text), 'digit'));
}

async function askOne(connection, number, signal) {
  const wrong = complaint(number);
  byId('number').setAttribute('aria-invalid', String(wrong !== ''));
  if (wrong) return showAnswer(refused('That cannot be asked', wrong));
  const startedAt = performance.now();
  const stopWaiting = showWaiting(number, startedAt);
  try {
    const answer = await check(connection, number, signal);
    showAnswer(answered(answer, performance.now() - startedAt));
  } catch (error) {
    if (!signal.aborted) showAnswer(refused('No answer', error.message));
    else if (!byId('ask-stop').hidden) showAnswer(refused('Stopped', 'The request was cancelled.'));
  } finally {
    stopWaiting();
  }
}

/** Says that the answer is awaited, with the seconds counted where no screen reader reads them. */
function showWaiting(number, startedAt) {
  const elapsed = element('span', { 'aria-hidden': 'true' });
  const line = element('p', { class: 'verdict-line' }, icon('searching'), 'Checking … ', elapsed);
  const stop = byId('ask-stop');
  const shown = setTimeout(() => {
    showAnswer([line, element('p', { class: 'of' }, numberElement(number))]);
    stop.hidden = false;
  }, 150);
  const ticking = setInterval(() => setText(elapsed, duration(performance.now() - startedAt)), 100);
  return () => {
    clearTimeout(shown);
    clearInterval(ticking);
    if (document.activeElement === stop) byId('ask').focus();
    stop.hidden = true;
  };
}

function showAnswer(children) {
  byId('answer').replaceChildren(...children);
}

function refused(title, detail) {
  return [
    element('p', { class: 'verdict-line refused' }, icon('suspect'), title),
    element('p', { class: 'detail' }, detail),
  ];
}

function answered(answer, tookMs) {
  const kind = answer.is_prime ? 'prime' : 'composite';
  const fact = (name, value) => element('div', {}, element('dt', {}, name), element('dd', {}, value));
  return [
    element('p', { class: `verdict-line ${kind}` }, icon(kind), answer.is_prime ? 'Prime' : 'Not prime'),
    element('p', { class: 'of' }, numberElement(answer.number), answer.is_prime ? ' is prime.' : ' is not prime.'),
    element(
      'dl',
      {},
      fact('Answered by', answer.processed_by),
      fact('Certainty', answer.certainty),
      fact('Took', duration(tookMs)),
    ),
    element('p', { class: 'detail' }, certaintyExplained(answer)),
  ];
}

export function prepareMany(connection) {
  let running = new AbortController();
  let batch = null;
  const begin = async () => {
    running.abort();
    running = new AbortController();
    const numbers = byId('many').value.split(/[\s,;]+/).filter((part) => part !== '');
    const wrong = tooFewOrMany(numbers.length);
    if (wrong) return showManyProgress('', wrong);
    batch?.abandon();
    batch = new Batch(numbers);
    await askMany(connection, batch, running.signal);
  };
  byId('many-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void begin();
  });
  byId('many-cancel').addEventListener('click', () => running.abort());
  byId('many-copy').addEventListener('click', ({ currentTarget }) => copy(batch.text(), currentTarget));
  byId('many-earlier').addEventListener('click', () => batch.turn(-1));
  byId('many-later').addEventListener('click', () => batch.turn(1));
}

async function askMany(connection, batch, signal) {
  await forEachIndex(batch.numbers.length, signal, async (index) => {
    const number = batch.numbers[index];
    const startedAt = performance.now();
    try {
      const wrong = complaint(number);
      if (wrong) throw new Error(wrong);
      const answer = await check(connection, number, signal);
      batch.settle(index, { answer, tookMs: performance.now() - startedAt });
    } catch (error) {
      if (!signal.aborted) batch.settle(index, { refusal: error.message });
    }
  });
  batch.finish(signal.aborted);
}

function tooFewOrMany(length) {
  if (length === 0) return 'Paste some numbers first.';
  return length > MANY_MAX ? `Those are ${grouped(length)}; up to ${grouped(MANY_MAX)} can be asked at once.` : '';
}

/** The count runs for the eye only; news is also read aloud, at the beginning and at the end. */
function showManyProgress(count, news) {
  setText(byId('many-count'), count);
  setText(byId('many-news'), news);
  byId('many-news').classList.toggle('visually-hidden', count !== '');
}

/** The numbers of one go, what came of them, and the page of them that is shown. */
class Batch {
  numbers;
  #outcomes = [];
  #tally = { prime: 0, composite: 0, refused: 0 };
  #startedAt = performance.now();
  #drawing = 0;
  #finished = false;
  #first = 0;
  #rows = [];

  constructor(numbers) {
    this.numbers = numbers;
    byId('many-results').hidden = false;
    byId('many-bar').hidden = false;
    byId('many-bar').max = numbers.length;
    byId('many-cancel').hidden = false;
    byId('many-copy').hidden = true;
    byId('many-pages').hidden = numbers.length <= ROWS_SHOWN;
    this.#showRows();
    this.#draw();
  }

  settle(index, outcome) {
    this.#outcomes[index] = outcome;
    this.#tally[kindOf(outcome)] += 1;
    this.#rows[index - this.#first]?.append(...outcomeElements(outcome));
    this.#drawing ||= setTimeout(() => this.#draw(), DRAW_EVERY_MS);
  }

  finish(cancelled) {
    if (this.#finished) return;
    this.abandon();
    this.#draw();
    const { prime, composite, refused } = this.#tally;
    const parts = [`${grouped(prime)} prime`, `${grouped(composite)} not`];
    if (refused > 0) parts.push(`${grouped(refused)} without an answer`);
    const took = duration(performance.now() - this.#startedAt);
    showManyProgress('', `${this.#progress()}${cancelled ? ', then cancelled' : ''}: ${parts.join(', ')}; ${took}`);
    if (document.activeElement === byId('many-cancel')) byId('ask-many').focus();
    byId('many-cancel').hidden = true;
    byId('many-copy').hidden = false;
  }

  turn(pages) {
    const first = this.#first + pages * ROWS_SHOWN;
    if (first < 0 || first >= this.numbers.length) return;
    this.#first = first;
    this.#showRows();
  }

  /** A line for each number, as a spreadsheet takes it. */
  text() {
    return this.numbers.map((number, index) => [number, ...outcomeWords(this.#outcomes[index])].join('\t')).join('\n');
  }

  /** What is still to be drawn of an abandoned go must not overwrite the next one. */
  abandon() {
    clearTimeout(this.#drawing);
    this.#finished = true;
  }

  #showRows() {
    const after = Math.min(this.#first + ROWS_SHOWN, this.numbers.length);
    this.#rows = this.numbers.slice(this.#first, after).map((number, offset) => {
      const outcome = this.#outcomes[this.#first + offset];
      return element('li', {}, numberElement(number), ...(outcome ? outcomeElements(outcome) : []));
    });
    byId('many-results').start = this.#first + 1;
    byId('many-results').replaceChildren(...this.#rows);
    byId('many-results').scrollTop = 0;
    setText(byId('many-range'), `${grouped(this.#first + 1)} to ${grouped(after)}`);
    byId('many-earlier').setAttribute('aria-disabled', String(this.#first === 0));
    byId('many-later').setAttribute('aria-disabled', String(after === this.numbers.length));
  }

  #done() {
    return this.#tally.prime + this.#tally.composite + this.#tally.refused;
  }

  #progress() {
    return `${grouped(this.#done())} of ${grouped(this.numbers.length)}`;
  }

  #draw() {
    this.#drawing = 0;
    showManyProgress(this.#progress(), `Asking ${counted(this.numbers.length, 'number')}.`);
    byId('many-bar').value = this.#done();
  }
}

function kindOf({ answer }) {
  if (!answer) return 'refused';
  return answer.is_prime ? 'prime' : 'composite';
}

function outcomeElements({ answer, tookMs, refusal }) {
  if (!answer) return [element('span', { class: 'verdict refused' }, icon('suspect'), refusal)];
  const how = `${answer.processed_by} · ${answer.certainty} · ${duration(tookMs)}`;
  return [verdictElement(answer.is_prime), element('span', { class: 'how', title: certaintyExplained(answer) }, how)];
}

function outcomeWords(outcome) {
  if (!outcome) return ['not asked'];
  const { answer, refusal } = outcome;
  return answer ? [answer.is_prime ? 'prime' : 'not prime', answer.processed_by, answer.certainty] : [refusal];
}
