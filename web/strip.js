// A range as a strip of cells, each in the colour of the worker that did most of it.

import { element } from './dom.js';
import { grouped } from './text.js';
import { colourClass } from './workers.js';

const CELLS = 240;

export class Strip {
  #from;
  #numbers;
  #cells;

  constructor(box, { from, to }) {
    this.#from = from;
    this.#numbers = to - from + 1n;
    const length = this.#numbers < CELLS ? Number(this.#numbers) : CELLS;
    this.#cells = Array.from({ length }, () => ({ shares: new Map(), box: element('span') }));
    box.replaceChildren(...this.#cells.map((cell) => cell.box));
  }

  add({ from, to, processed_by: worker }) {
    const begin = this.#place(BigInt(from));
    const end = this.#place(BigInt(to) + 1n);
    const last = Math.min(Math.ceil(end), this.#cells.length);
    for (let index = Math.floor(begin); index < last; index++) {
      this.#give(index, worker, Math.min(end, index + 1) - Math.max(begin, index));
    }
  }

  /** Where a number stands, in cells: for the eye a fraction is exact enough. */
  #place(number) {
    return (Number(number - this.#from) / Number(this.#numbers)) * this.#cells.length;
  }

  #give(index, worker, part) {
    const { shares, box } = this.#cells[index];
    shares.set(worker, (shares.get(worker) ?? 0) + part);
    const workers = [...shares.keys()].sort((a, b) => shares.get(b) - shares.get(a));
    box.className = colourClass(workers[0]);
    box.dataset.worker = workers[0];
    box.title = `${this.#numbersOf(index)}: ${workers.join(', ')}`;
  }

  #numbersOf(index) {
    const start = (place) => this.#from + (this.#numbers * BigInt(place)) / BigInt(this.#cells.length);
    return `${grouped(start(index))} to ${grouped(start(index + 1) - 1n)}`;
  }
}
