// Numbers as text, and how things are put in words. No number that was asked ever becomes a JavaScript number.

const KEPT_WHOLE = 26;
const count = new Intl.NumberFormat('en');
const rough = new Intl.NumberFormat('en', { notation: 'compact', compactDisplay: 'long', maximumSignificantDigits: 3 });
const clockFormat = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const dayFormat = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

export function digitsOf(text) {
  return text.startsWith('-') ? text.length - 1 : text.length;
}

export function counted(number, noun) {
  return `${count.format(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/** A number, or a BigInt, with its thousands apart. */
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

/** About how many, such as 1.2 billion. */
export function roughly(number) {
  return rough.format(number);
}

export function percent(part) {
  return `${Math.round(part * 100)} %`;
}

export function clock(epochMs) {
  const isToday = new Date(epochMs).toDateString() === new Date().toDateString();
  return (isToday ? clockFormat : dayFormat).format(epochMs);
}

const PROOFS = {
  'miller-rabin': 'It passes the strong test to the first 13 primes, which no composite below 3.3 × 10²⁴ does.',
  'lucas-lehmer': 'It is proven by the test of Lucas and Lehmer.',
  pocklington: 'It is proven by prime factors of the number less 1 (Pocklington).',
  morrison: 'It is proven by prime factors of the number plus 1 (Morrison).',
};

const WITNESSES = {
  factor: (factor) => `It is a multiple of ${factor.length > 40 ? `a number of ${factor.length} digits` : factor}.`,
  base: (base) => `It fails the strong test to base ${base}.`,
  lucas: (discriminant) => `It fails the Lucas test with discriminant ${discriminant}.`,
};

/** How sure an answer is, in a sentence. */
export function certaintyExplained({ number, is_prime, certainty, proof, witness }) {
  if (certainty === 'probable') {
    return 'It passed a strengthened Baillie–PSW test, which no known composite passes. No cheap proof was found.';
  }
  if (proof) return PROOFS[proof.method] ?? 'It is proven.';
  const [kind, value] = Object.entries(witness ?? {})[0] ?? [];
  if (kind) return WITNESSES[kind]?.(value) ?? 'It is proven.';
  if (is_prime && BigInt(number) >= 2n ** 64n) return 'It is proven. Ask it by itself to see how.';
  if (is_prime) return 'Below 2⁶⁴ the test is known to have no exception.';
  if (number === '0' || number === '1' || number.startsWith('-')) return 'Primes begin at 2.';
  return 'The test never mistakes a prime for a composite.';
}
