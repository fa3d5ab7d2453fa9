// One number and its answer.

import { byId, element, icon, numberElement, setText } from './dom.js';
import { check, neighbour } from './questions.js';
import { certaintyExplained, duration } from './text.js';
import { swatch } from './workers.js';

const WAIT_SHOWN_AFTER_MS = 150;

export function askOne(connection, number, signal) {
  return show(number, 'Checking … ', signal, () => check(connection, number, signal));
}

/** Shows the next or the previous prime, and returns it if there is one. */
export function askNeighbour(connection, number, which, signal) {
  return show(number, `Looking for the ${which} prime … `, signal, () => neighbour(connection, number, which, signal));
}

export function showRefusal(title, detail) {
  byId('answer').replaceChildren(
    element('p', { class: 'verdict-line refused' }, icon('suspect'), title),
    element('p', { class: 'detail' }, detail),
  );
}

async function show(number, doing, signal, ask) {
  const startedAt = performance.now();
  const stopWaiting = showWaiting(number, doing, startedAt);
  try {
    const answer = await ask();
    byId('answer').replaceChildren(...answered(answer, performance.now() - startedAt));
    return answer.number;
  } catch (error) {
    if (!signal.aborted) showRefusal('No answer', error.message);
    else if (signal.reason === 'stopped') showRefusal('Stopped', 'The request was cancelled.');
    return null;
  } finally {
    stopWaiting();
  }
}

/** Says that the answer is awaited, with the seconds counted where no screen reader reads them. */
function showWaiting(number, doing, startedAt) {
  const elapsed = element('span', { 'aria-hidden': 'true' });
  const line = element('p', { class: 'verdict-line' }, icon('searching'), doing, elapsed);
  const shown = setTimeout(
    () => byId('answer').replaceChildren(line, element('p', { class: 'of' }, numberElement(number))),
    WAIT_SHOWN_AFTER_MS,
  );
  const ticking = setInterval(() => setText(elapsed, duration(performance.now() - startedAt)), 100);
  return () => {
    clearTimeout(shown);
    clearInterval(ticking);
  };
}

function answered(answer, tookMs) {
  const kind = answer.is_prime ? 'prime' : 'composite';
  const fact = (name, ...value) => element('div', {}, element('dt', {}, name), element('dd', {}, ...value));
  return [
    element('p', { class: `verdict-line ${kind}` }, icon(kind), answer.is_prime ? 'Prime' : 'Not prime'),
    element('p', { class: 'of' }, numberElement(answer.number), answer.is_prime ? ' is prime.' : ' is not prime.'),
    element(
      'dl',
      { class: 'facts' },
      fact('Answered by', swatch(answer.processed_by), answer.processed_by),
      fact('Certainty', answer.certainty),
      fact('Took', duration(tookMs)),
    ),
    element('p', { class: 'detail' }, certaintyExplained(answer)),
    element('div', { class: 'actions' }, ...neighbourButtons(answer.number)),
  ];
}

function neighbourButtons(number) {
  const button = (which, label) =>
    element('button', { type: 'button', class: 'quiet', 'data-which': which, 'data-number': number }, label);
  return [button('previous', 'Previous prime'), button('next', 'Next prime')];
}
