// An Ulam spiral: the numbers of a range from the middle outwards, the primes marked.

import { coloursNow, colourIndex } from './workers.js';

// More primes would take a browser seconds.
const SIDE_MAX = 1000;
/** The points that a box has beside each other. */
const pointsAcross = (box) => Math.min(SIDE_MAX, Math.floor(box.clientWidth * devicePixelRatio));

/** How many numbers can be seen in a box, each as a point of its own. */
export function numbersThatFit(box) {
  return BigInt(pointsAcross(box)) ** 2n;
}

export class Spiral {
  #canvas;
  #from;
  #side;
  #primes = [];
  #segments = [];
  #drawn = 0;
  #colours = [];
  #image;

  /** `numbers` of them from `from` on. */
  constructor(canvas, from, numbers) {
    this.#canvas = canvas;
    this.#from = from;
    this.#side = Math.max(2, Math.ceil(Math.sqrt(numbers)));
    canvas.width = canvas.height = this.#side;
    // Whole points for each number: anything else would draw a pattern of its own.
    const scale = Math.max(1, Math.floor(pointsAcross(canvas.parentElement) / this.#side));
    canvas.style.width = `${(this.#side * scale) / devicePixelRatio}px`;
    this.redraw();
  }

  addPrimes(primes) {
    for (const prime of primes) this.#primes.push(Number(BigInt(prime) - this.#from));
    this.#draw();
  }

  /** Who counted a part of the range, and so sieved the primes in it. */
  addSegment({ from, to, processed_by: worker }) {
    const [first, last] = [from, to].map((end) => Number(BigInt(end) - this.#from));
    if (first >= this.#side ** 2) return;
    this.#segments.push({ first, last, index: colourIndex(worker) });
    this.redraw();
  }

  /** With the colours of now: those of the system may have changed. */
  redraw() {
    this.#colours = [...coloursNow(), getComputedStyle(this.#canvas).color].map(packed);
    this.#image = new ImageData(this.#side, this.#side);
    this.#drawn = 0;
    this.#draw();
  }

  #draw() {
    const points = new Uint32Array(this.#image.data.buffer);
    for (; this.#drawn < this.#primes.length; this.#drawn++) {
      const offset = this.#primes[this.#drawn];
      points[this.#point(offset)] = this.#colourOf(offset);
    }
    this.#canvas.getContext('2d').putImageData(this.#image, 0, 0);
  }

  #colourOf(offset) {
    const segment = this.#segments.find(({ first, last }) => first <= offset && offset <= last);
    return segment ? this.#colours[segment.index] : this.#colours.at(-1);
  }

  #point(offset) {
    const [x, y] = turned(offset);
    return ((this.#side >> 1) - y) * this.#side + ((this.#side - 1) >> 1) + x;
  }
}

/** Where a number of the spiral stands: to the right of the middle first, then upwards, to the left, and down. */
function turned(offset) {
  if (offset === 0) return [0, 0];
  const ring = Math.ceil((Math.sqrt(offset + 1) - 1) / 2);
  const along = offset - (2 * ring - 1) ** 2;
  const [quarter, step] = [Math.floor(along / (2 * ring)), (along % (2 * ring)) + 1];
  if (quarter === 0) return [ring, step - ring];
  if (quarter === 1) return [ring - step, ring];
  if (quarter === 2) return [-ring, ring - step];
  return [step - ring, -ring];
}

/** A colour as the bytes of a point. */
function packed(colour) {
  const context = new OffscreenCanvas(1, 1).getContext('2d');
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer)[0];
}
