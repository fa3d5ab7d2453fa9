// The colours of the workers: the same for a name on every page, in every strip.

import { element, setText } from './dom.js';
import { percent } from './text.js';

const COLOURS = 8;

/** The class that gives a worker its colour; worker1 to worker8 all differ. */
export function colourClass(name) {
  return `worker-${colourIndex(name)}`;
}

export function colourIndex(name) {
  const ending = /\d+$/.exec(name)?.[0];
  const sum = [...name].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 65_521, 0);
  return (ending ? Number(ending.slice(-9)) - 1 + COLOURS : sum) % COLOURS;
}

/** The colours as they are shown now: a canvas has no style sheet. */
export function coloursNow() {
  const style = getComputedStyle(document.documentElement);
  return Array.from({ length: COLOURS }, (_, index) => style.getPropertyValue(`--worker-${index}`).trim());
}

export function swatch(name) {
  return element('span', { class: `swatch ${colourClass(name)}`, 'aria-hidden': 'true' });
}

/** Who did how much, beside the colour. */
export class Legend {
  #list;
  #shares = new Map();
  #parts = new Map();

  constructor(list) {
    this.#list = list;
    list.replaceChildren();
  }

  add(name, amount) {
    this.#shares.set(name, (this.#shares.get(name) ?? 0) + amount);
    if (!this.#parts.has(name)) this.#append(name);
  }

  draw() {
    for (const [name, part] of this.#parts) setText(part, this.#share(name));
  }

  /** The same in words. */
  text() {
    return [...this.#parts.keys()].map((name) => `${name} ${this.#share(name)}`).join(', ');
  }

  #share(name) {
    const all = [...this.#shares.values()].reduce((sum, share) => sum + share, 0);
    return percent(this.#shares.get(name) / all);
  }

  #append(name) {
    const part = element('span', { class: 'aside' });
    this.#parts.set(name, part);
    const item = element('li', { 'data-name': name }, swatch(name), name, ' ', part);
    const after = [...this.#list.children].find((other) => other.dataset.name.localeCompare(name, 'en', { numeric: true }) > 0);
    this.#list.insertBefore(item, after ?? null);
  }
}
