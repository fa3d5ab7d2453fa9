// The two forms.

import { byId, copy, element, icon, numberElement, setText, verdictElement } from './dom.js';
import { check, forEachIndex } from './questions.js';
import { certaintyExplained, complaint, counted, digitsOf, duration, grouped, shortened } from './text.js';

const MANY_MAX = 20_000;
const EXAMPLES = [
  { label: '17', number: '17' },
  { label: '561', number: '561' },
  { label: '9223372036854775783', number: '9223372036854775783' },
  { label: '2¹²⁷ − 1', number: '170141183460469231731687303715884105727' },
  { label: '10⁹⁹⁹ + 7', number: `1${'0'.repeat(998)}7` },
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

function exampleButton({ label, number }, tryExample) {
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
  if (wrong) return showAnswer(refusal('That cannot be asked', wrong));
  const startedAt = performance.now();
  const stopWaiting = showWaiting(number, startedAt);
  try {
    const answer = await check(connection, number, signal);
    showAnswer(answered(answer, performance.now() - startedAt));
  } catch (error) {
    if (!signal.aborted) showAnswer(refusal('No answer', error.message));
    else if (!byId('ask-stop').hidden) showAnswer(refusal('Stopped', 'The cluster was told that nobody waits any more.'));
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
    showAnswer([line, element('p', { class: 'of' }, shortened(number))]);
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

function refusal(title, detail) {
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
  let lines = [];
  byId('many-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    running.abort();
    running = new AbortController();
    lines = await askMany(connection, byId('many').value, running.signal);
  });
  byId('many-cancel').addEventListener('click', () => running.abort());
  byId('many-copy').addEventListener('click', ({ currentTarget }) => copy(lines.join('\n'), currentTarget));
}

async function askMany(connection, text, signal) {
  const numbers = text.split(/[\s,;]+/).filter((part) => part !== '');
  const wrong = tooFewOrMany(numbers.length);
  if (wrong) {
    showManyProgress('', wrong);
    return [];
  }
  const batch = new Batch(numbers);
  await forEachIndex(numbers.length, signal, async (index) => {
    const startedAt = performance.now();
    try {
      const wrongNumber = complaint(numbers[index]);
      if (wrongNumber) throw new Error(wrongNumber);
      batch.answer(index, await check(connection, numbers[index], signal), performance.now() - startedAt);
    } catch (error) {
      if (!signal.aborted) batch.refuse(index, error.message);
    }
  });
  return batch.finish(signal.aborted);
}

/** The count runs for the eye only; news is also read aloud, at the beginning and at the end. */
function showManyProgress(count, news) {
  setText(byId('many-count'), count);
  setText(byId('many-news'), news);
  byId('many-news').classList.toggle('visually-hidden', count !== '');
}

function tooFewOrMany(length) {
  if (length === 0) return 'Paste some numbers first.';
  return length > MANY_MAX ? `Those are ${grouped(length)}; up to ${grouped(MANY_MAX)} can be asked at once.` : '';
}

/** The numbers of one go, their rows, and how far they are. */
class Batch {
  #numbers;
  #rows;
  #lines;
  #startedAt = performance.now();
  #tally = { prime: 0, composite: 0, refused: 0 };
  #drawing = 0;

  constructor(numbers) {
    this.#numbers = numbers;
    this.#lines = numbers.map((number) => `${number}\tnot asked`);
    this.#rows = numbers.map((number) => element('li', {}, numberElement(number)));
    const list = byId('many-results');
    list.replaceChildren(...this.#rows);
    list.scrollTop = 0;
    list.hidden = false;
    byId('many-bar').hidden = false;
    byId('many-bar').max = numbers.length;
    byId('many-cancel').hidden = false;
    byId('many-copy').hidden = true;
    this.#draw();
  }

  answer(index, answer, tookMs) {
    this.#tally[answer.is_prime ? 'prime' : 'composite'] += 1;
    const how = element('span', { class: 'how' }, `${answer.processed_by} · ${answer.certainty} · ${duration(tookMs)}`);
    how.title = certaintyExplained(answer);
    this.#rows[index].append(verdictElement(answer.is_prime), how);
    const verdict = answer.is_prime ? 'prime' : 'not prime';
    this.#lines[index] = [answer.number, verdict, answer.processed_by, answer.certainty].join('\t');
    this.#drawSoon();
  }

  refuse(index, why) {
    this.#tally.refused += 1;
    this.#rows[index].append(element('span', { class: 'verdict refused' }, icon('suspect'), why));
    this.#lines[index] = `${this.#numbers[index]}\t${why}`;
    this.#drawSoon();
  }

  finish(cancelled) {
    cancelAnimationFrame(this.#drawing);
    this.#draw();
    const { prime, composite, refused } = this.#tally;
    const took = duration(performance.now() - this.#startedAt);
    const parts = [`${grouped(prime)} prime`, `${grouped(composite)} not`];
    if (refused > 0) parts.push(`${grouped(refused)} refused`);
    const news = `${this.#progress()}${cancelled ? ', then cancelled' : ''}: ${parts.join(', ')}; ${took}`;
    showManyProgress('', news);
    if (document.activeElement === byId('many-cancel')) byId('ask-many').focus();
    byId('many-cancel').hidden = true;
    byId('many-copy').hidden = false;
    return this.#lines;
  }

  #done() {
    return this.#tally.prime + this.#tally.composite + this.#tally.refused;
  }

  #progress() {
    return `${grouped(this.#done())} of ${grouped(this.#numbers.length)}`;
  }

  /** At most once a frame: answers come faster than anybody reads. */
  #drawSoon() {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = 0;
    showManyProgress(this.#progress(), `Asking ${counted(this.#numbers.length, 'number')}.`);
    byId('many-bar').value = this.#done();
  }
}
