// Numbers as text, and how things are put in words. No number that was asked ever becomes a JavaScript number.

const MAX_DIGITS = 10_000;

const GRAMMAR = /^(0|-?[1-9][0-9]*)$/;
const KEPT_WHOLE = 26;
const count = new Intl.NumberFormat('en');
const clockFormat = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const dayFormat = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** What is wrong with a number, and what is allowed; empty if nothing is. */
export function complaint(text) {
  if (text === '') return 'Write a whole number, such as 17 or -5.';
  if (GRAMMAR.test(text)) {
    return digitsOf(text) > MAX_DIGITS
      ? `That has ${counted(digitsOf(text), 'digit')}; up to ${count.format(MAX_DIGITS)} are answered.`
      : '';
  }
  if (/^-?0+[0-9]*$/.test(text)) return 'No leading zeros, and no minus before 0: write 7 for 007, and 0 for -0.';
  if (/^[-+\d]*\d[\s,.'’_]/.test(text)) {
    return 'One number, digits only: no blanks, commas or points inside. Write 1000 for 1,000. Several numbers go under “Many at once”.';
  }
  return 'Only the digits 0–9 are allowed, after an optional minus sign, such as 1000 or -5.';
}

export function digitsOf(text) {
  return text.startsWith('-') ? text.length - 1 : text.length;
}

export function counted(number, noun) {
  return `${count.format(number)} ${noun}${number === 1 ? '' : 's'}`;
}

export function grouped(number) {
  return count.format(number);
}

export function isLong(text) {
  return text.length > KEPT_WHOLE;
}

/** The number with its middle left out. */
export function shortened(text) {
  return isLong(text) ? `${text.slice(0, 10)}…${text.slice(-8)}` : text;
}

export function duration(ms) {
  if (ms < 1) return `${Math.max(1, Math.round(ms * 1000))} µs`;
  if (ms < 1000) return `${ms < 10 ? +ms.toFixed(1) : Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${(ms / 1000).toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${counted(Math.floor(seconds / 86_400), 'day')} ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function clock(epochMs) {
  const isToday = new Date(epochMs).toDateString() === new Date().toDateString();
  return (isToday ? clockFormat : dayFormat).format(epochMs);
}

/** How sure an answer is, in a sentence. */
export function certaintyExplained({ number, is_prime, certainty }) {
  if (certainty === 'probable') {
    return 'It passed a strengthened Baillie–PSW test, which no known composite passes. Beyond 2⁶⁴ that is not a proof.';
  }
  if (is_prime) return 'Below 2⁶⁴ the test is known to have no exception.';
  if (number === '0' || number === '1' || number.startsWith('-')) return 'Primes begin at 2.';
  return 'The test never mistakes a prime for a composite.';
}
