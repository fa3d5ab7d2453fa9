// What was typed: a number, many numbers, or a range, each in the forms that people write.

import { counted, digitsOf, grouped } from './text.js';

const DIGITS_MAX = 10_000;
const MANY_MAX = 20_000;
// Many long powers in a sum would take seconds at each key.
const FORM_CHARS_MAX = 1000;
const RANGE_MAX = 2n ** 64n - 1n;

const PLAIN = /^(0|-?[1-9][0-9]*)$/;
const RANGE = /^(.+?)(?:\.\.+|…|[–—]|\sto\s)(.+)$/is;
const SPACED_MINUS = /^(\S+)\s+-\s+(\S+)$/;
const SUPERSCRIPTS = '⁰¹²³⁴⁵⁶⁷⁸⁹';
const TERMS = /^[+-]?[^+-]+([+-][^+-]+)*$/;
const POWER = /^(\d+)(?:(\^|e)(\d+))?$/i;
const FORMS = 'Write digits, such as 17 or -5, or a form such as 2^127-1, 10^12 or 1e12.';

/** What is asked: a `number`, `numbers` as they were written, or `from` and `to`; throws an error with words for people. */
export function read(text) {
  const written = tidied(text);
  if (written === '') throw new Error('Write a number, many numbers or a range, such as 17, 2^127-1 or 1..1e9.');
  return readRange(written) ?? readNumbers(parts(written));
}

/** A number in any of the forms, in digits; throws an error with words for people. */
export function digitsIn(text) {
  if (PLAIN.test(text)) return tooLong(digitsOf(text)) ?? text;
  if (/^-?0+[0-9]*$/.test(text)) {
    throw new Error('No leading zeros, and no minus before 0: write 7 for 007, and 0 for -0.');
  }
  return evaluated(text).toString();
}

/** One way to write each sign, and no blanks around those that cannot stand between two numbers. */
function tidied(text) {
  return text
    .trim()
    .replaceAll('−', '-')
    .replace(/[⁰¹²³⁴-⁹]+/g, (digits) => `^${[...digits].map((digit) => SUPERSCRIPTS.indexOf(digit)).join('')}`)
    .replaceAll('**', '^')
    .replace(/[^\S\n]*([*^+×·])[^\S\n]*/g, (_, sign) => ('×·'.includes(sign) ? '*' : sign));
}

function readRange(text) {
  const match = RANGE.exec(text);
  if (match) return rangeOf(match[1], match[2]);
  const spaced = SPACED_MINUS.exec(text);
  if (!spaced) return null;
  const [from, to] = spaced.slice(1).map(bounded);
  // With the larger number first it can only be a difference, such as 2^127 - 1.
  return from <= to ? rangeWithin(from, to) : null;
}

function rangeOf(first, last) {
  const [from, to] = [first, last].map((end) => bounded(end.trim().replace(/\s+-\s+/g, '-')));
  if (from > to) throw new Error(`The range begins at ${from}, after its end ${to}; write the smaller number first.`);
  return rangeWithin(from, to);
}

function rangeWithin(from, to) {
  if (from < 0n || to > RANGE_MAX) throw new Error(`A range lies between 0 and 2^64-1, which is ${RANGE_MAX}.`);
  return { from, to };
}

const bounded = (text) => BigInt(digitsIn(text));

/** The numbers as they were written, with the blanks of differences closed. */
function parts(text) {
  const closed = text.replace(/[^\S\n]+-[^\S\n]+/g, '-');
  return closed.split(/[\s,;]+/).filter((part) => part !== '');
}

function readNumbers(parts) {
  if (parts.length === 1) return { number: digitsIn(parts[0]) };
  if (parts.length === 0) throw new Error(FORMS);
  if (parts.length > MANY_MAX) {
    throw new Error(`Those are ${grouped(parts.length)}; up to ${grouped(MANY_MAX)} can be asked at once.`);
  }
  return { numbers: parts };
}

/** Sums and differences of products of powers. */
function evaluated(text) {
  if (text.length > FORM_CHARS_MAX || !TERMS.test(text)) throw new Error(notUnderstood(text));
  let sum = 0n;
  for (const [, sign, term] of text.matchAll(/([+-]?)([^+-]+)/g)) {
    const value = checkedSize(term.split('*').reduce((product, factor) => checkedSize(product * power(factor, text)), 1n));
    sum += sign === '-' ? -value : value;
  }
  return checkedSize(sum);
}

function power(factor, whole) {
  const match = POWER.exec(factor);
  if (!match) throw new Error(notUnderstood(whole));
  const [, base, operator, exponent] = match;
  tooLong(base.length);
  if (!operator) return BigInt(base);
  const scaled = operator !== '^';
  // How many digits it has, before it is made: 9^9^9 would take for ever.
  tooLong(scaled ? base.length + Number(exponent) : Math.floor(Number(exponent) * log10(base)) + 1);
  return scaled ? BigInt(base) * 10n ** BigInt(exponent) : BigInt(base) ** BigInt(exponent);
}

function log10(digits) {
  const leading = Number(digits.slice(0, 15));
  return leading < 2 && digits.length === 1 ? 0 : Math.log10(leading) + Math.max(0, digits.length - 15);
}

function checkedSize(value) {
  tooLong(digitsOf(value.toString()));
  return value;
}

function tooLong(digits) {
  if (digits < DIGITS_MAX + 1) return undefined;
  const has = Number.isSafeInteger(digits) ? `has ${counted(digits, 'digit')}` : 'is longer than that';
  throw new Error(`Up to ${grouped(DIGITS_MAX)} digits are answered; that ${has}.`);
}

function notUnderstood(text) {
  const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
  return `“${shown}” is not a number that can be asked. ${FORMS}`;
}
