// A range: how many primes it has, who counts which part of it, and where the first of them lie.

import { byId, setText } from './dom.js';
import { count, list } from './questions.js';
import { Spiral, numbersThatFit } from './spiral.js';
import { Strip } from './strip.js';
import { duration, grouped, percent, roughly } from './text.js';
import { Legend } from './workers.js';

// The rate is that of the last seconds, so that it tells what a worker's end costs.
const RATE_OVER_MS = 5000;

let spiral = null;

export function prepareRange() {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => spiral?.redraw());
}

export async function askRange(connection, range, signal) {
  const progress = new Progress(range);
  const counting = count(connection, range, signal, (part) => {
    progress.add(part);
    for (const segment of part.segments) spiral.addSegment(segment);
  });
  const drawing = drawSpiral(connection, range, signal);
  const error = await counting.then(() => null, (error) => error);
  if (error && signal.reason === 'replaced') return;
  progress.finish(error && (signal.aborted ? 'Stopped.' : error.message));
  await drawing;
}

/** How far the count of one range has come. */
class Progress {
  #range;
  #numbers;
  #total = 0n;
  #done = 0n;
  #startedAt = performance.now();
  #marks = [{ at: this.#startedAt, done: 0 }];
  #strip;
  #legend = new Legend(byId('range-legend'));

  constructor(range) {
    this.#range = range;
    this.#numbers = range.to - range.from + 1n;
    this.#strip = new Strip(byId('strip'), range);
    byId('range').hidden = false;
    byId('range').dataset.state = 'counting';
    setText(byId('range-of'), `primes from ${grouped(range.from)} to ${grouped(range.to)}`);
    setText(byId('range-left-name'), 'Time left');
    setText(byId('range-news'), `Counting the primes from ${range.from} to ${range.to}.`);
    setText(byId('range-problem'), '');
    this.#draw();
  }

  add({ next, total, segments }) {
    this.#total = total;
    this.#done = next - this.#range.from;
    for (const segment of segments) {
      this.#strip.add(segment);
      this.#legend.add(segment.processed_by, Number(BigInt(segment.to) - BigInt(segment.from) + 1n));
    }
    this.#mark();
    this.#draw();
  }

  /** `problem` says why not all of it is counted, if so. */
  finish(problem) {
    this.#marks = [{ at: this.#startedAt, done: 0 }, { at: performance.now(), done: Number(this.#done) }];
    this.#draw();
    setText(byId('range-left-name'), 'Took');
    setText(byId('range-left'), duration(performance.now() - this.#startedAt));
    byId('range').dataset.state = problem ? 'ended' : 'done';
    const reached = this.#done > 0n ? `Counted up to ${grouped(this.#range.from + this.#done - 1n)}.` : '';
    setText(byId('range-problem'), problem ? `${problem} ${reached}` : '');
    setText(byId('range-news'), problem ? '' : `${grouped(this.#total)} primes; by ${this.#legend.text()}.`);
  }

  #mark() {
    const now = performance.now();
    this.#marks.push({ at: now, done: Number(this.#done) });
    while (this.#marks.length > 2 && this.#marks[1].at < now - RATE_OVER_MS) this.#marks.shift();
  }

  #draw() {
    const part = Number(this.#done) / Number(this.#numbers);
    const rate = this.#rate();
    setText(byId('range-count'), grouped(this.#total));
    // All is counted only at the end.
    setText(byId('range-done'), percent(Math.floor(part * 100) / 100));
    setText(byId('range-rate'), rate > 0 ? `${roughly(rate)}/s` : '–');
    setText(byId('range-left'), rate > 0 ? duration((Number(this.#numbers - this.#done) / rate) * 1000) : '–');
    byId('range-bar').value = part;
    this.#legend.draw();
    const whole = this.#done > 0n ? `: ${this.#legend.text()}` : '';
    byId('strip').setAttribute('aria-label', `Who counted which part of the range${whole}`);
  }

  /** Numbers a second. */
  #rate() {
    const [first, last] = [this.#marks[0], this.#marks.at(-1)];
    return last.at > first.at ? ((last.done - first.done) / (last.at - first.at)) * 1000 : 0;
  }
}

async function drawSpiral(connection, { from, to }, signal) {
  const fit = numbersThatFit(byId('spiral').parentElement);
  const last = to - from < fit ? to : from + fit - 1n;
  const mine = (spiral = new Spiral(byId('spiral'), from, Number(last - from + 1n)));
  let found = 0;
  const part = last < to ? ', as many as fit here' : '';
  const tell = (more) => describeSpiral(`${grouped(from)} to ${grouped(last)}${part}`, found, more);
  tell('');
  try {
    await list(connection, { from, to: last }, signal, (primes) => {
      mine.addPrimes(primes);
      found += primes.length;
      tell('');
    });
  } catch (error) {
    if (!signal.aborted) tell(`. ${error.message}`);
  }
}

function describeSpiral(numbers, found, more) {
  const text = `Ulam spiral of ${numbers}: ${grouped(found)} primes${more}`;
  setText(byId('spiral-of'), text);
  byId('spiral').setAttribute('aria-label', text);
}
