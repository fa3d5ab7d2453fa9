// The few things that the page asks of the document.

import { counted, digitsOf, isLong, shortened } from './text.js';

const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svgElement(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function icon(name) {
  const use = svgElement('use', { href: `#icon-${name}` });
  return svgElement('svg', { class: `icon icon-${name}`, 'aria-hidden': 'true' }, use);
}

/** Writes a text only where it differs, so that nothing is laid out or read aloud anew without need. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A number; a long one is shortened, and opens whole. */
export function numberElement(number) {
  if (!isLong(number)) return element('span', { class: 'number' }, number);
  const digits = counted(digitsOf(number), 'digit');
  const button = element('button', { type: 'button', class: 'number link', title: 'Show all digits' });
  button.append(shortened(number), ' ', element('span', { class: 'digits' }, `(${digits})`));
  button.addEventListener('click', () => showWhole(number, digits));
  return button;
}

export function verdictElement(isPrime) {
  const kind = isPrime ? 'prime' : 'composite';
  return element('span', { class: `verdict ${kind}` }, icon(kind), isPrime ? 'prime' : 'not prime');
}

function showWhole(number, digits) {
  byId('full-heading').textContent = `The number of ${digits}`;
  byId('full-text').value = number;
  byId('full').showModal();
  byId('full-text').setSelectionRange(0, 0);
  byId('full-text').scrollTop = 0;
}

export function prepareDialog() {
  byId('full-close').addEventListener('click', () => byId('full').close());
  byId('full-copy').addEventListener('click', (event) => copy(byId('full-text').value, event.currentTarget));
}

/** Copies a text, and says so on the button for a moment. */
export async function copy(text, button) {
  const label = button.textContent;
  const done = (await copiedByClipboard(text)) || copiedBySelection(text, button);
  button.textContent = done ? 'Copied' : 'Not copied';
  setTimeout(() => (button.textContent = label), 1500);
}

async function copiedByClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Away from localhost, plain HTTP has no clipboard; a selection can still be copied. */
function copiedBySelection(text, button) {
  const area = element('textarea', { class: 'visually-hidden', readonly: '' });
  area.value = text;
  button.parentElement.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  button.focus();
  return done;
}
