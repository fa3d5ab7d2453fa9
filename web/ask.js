// The one form: what is typed there is asked, and what was asked before ends.

import { askNeighbour, askOne, showRefusal } from './answer.js';
import { byId, element, setText } from './dom.js';
import { askMany } from './many.js';
import { askRange } from './range.js';
import { read } from './reading.js';
import { counted, digitsOf, grouped } from './text.js';

// What is answered within this time needs no button to stop it.
const STOP_AFTER_MS = 150;
const EXAMPLES = ['17', '561', '2^127-1', '10^999+7', '101 103 105 107', '1..1e9', '1e12..1e12+1e6'];

let running = new AbortController();

export function prepareAsking(connection) {
  const field = byId('question');
  const ask = () => void begin((signal) => askWhatIsRead(connection, field.value, signal));
  byId('ask-form').addEventListener('submit', (event) => {
    event.preventDefault();
    ask();
  });
  field.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  field.addEventListener('input', showReading);
  byId('stop').addEventListener('click', () => running.abort('stopped'));
  byId('examples').append(...EXAMPLES.map((example) => exampleButton(example, ask)));
  byId('answer').addEventListener('click', ({ target: { dataset } }) => {
    if (dataset.which) void begin((signal) => showNeighbour(connection, dataset, signal));
  });
}

function exampleButton(example, ask) {
  const button = element('button', { type: 'button', class: 'chip' }, example);
  button.addEventListener('click', () => {
    write(example);
    ask();
  });
  return button;
}

function write(text) {
  byId('question').value = text;
  showReading();
}

async function begin(ask) {
  running.abort('replaced');
  running = new AbortController();
  const { signal } = running;
  const stop = byId('stop');
  const shown = setTimeout(() => (stop.hidden = false), STOP_AFTER_MS);
  try {
    await ask(signal);
  } finally {
    clearTimeout(shown);
    if (signal === running.signal) hideStop();
  }
}

function hideStop() {
  const stop = byId('stop');
  if (document.activeElement === stop) byId('ask').focus();
  stop.hidden = true;
}

async function askWhatIsRead(connection, text, signal) {
  const { question, problem } = reading(text);
  byId('question').setAttribute('aria-invalid', String(problem !== ''));
  for (const panel of ['many', 'range']) byId(panel).hidden = true;
  byId('answer').replaceChildren();
  if (problem) return showRefusal('That cannot be asked', problem);
  if (question.numbers) return askMany(connection, question.numbers, signal);
  if (question.number) return askOne(connection, question.number, signal);
  return askRange(connection, question, signal);
}

async function showNeighbour(connection, { which, number }, signal) {
  const found = await askNeighbour(connection, number, which, signal);
  if (found) write(found);
}

function reading(text) {
  try {
    return { question: read(text), problem: '' };
  } catch (error) {
    return { problem: error.message };
  }
}

/** How it is understood, as long as it is. */
function showReading() {
  const field = byId('question');
  field.removeAttribute('aria-invalid');
  const { question } = reading(field.value);
  setText(byId('reading'), question ? described(question, field.value.trim()) : '');
}

function described({ number, numbers, from, to }, written) {
  if (numbers) return counted(numbers.length, 'number');
  if (!number) return `The range from ${grouped(from)} to ${grouped(to)}`;
  const digits = counted(digitsOf(number), 'digit');
  return number === written || number.length > 45 ? digits : `${number}, ${digits}`;
}
