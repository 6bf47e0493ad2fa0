/** Numbers, times and spans as people read them. */

const STEPS: [number, string][] = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

function trimZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** At most four significant digits, with k, M, G, T from ten thousand on. */
export function formatNumber(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e15) return value.toExponential(2);
  if (size >= 10_000) {
    const [unit, suffix] = STEPS.find(([step]) => size >= step) ?? [1, ''];
    return trimZeros((value / unit).toPrecision(4)) + suffix;
  }
  if (size !== 0 && size < 0.001) return value.toExponential(2);
  return trimZeros(value.toPrecision(Math.max(4, Math.ceil(Math.log10(size + 1)))));
}

/** A whole number with separators; for counts that are read exactly. */
export function formatCount(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : Math.round(value).toLocaleString('en-US');
}

/** A length of time: `85 ms`, `4.2 s`, `12 min`, `3 h`, `2 d`. */
export function formatSpan(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 90_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 129_600_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

const two = (part: number) => String(part).padStart(2, '0');

/** Local date and time to the second. */
export function formatTime(ms: number): string {
  const at = new Date(ms);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${formatClock(ms)}`;
}

/** Local time of day to the second. */
export function formatClock(ms: number): string {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The value of a `datetime-local` field for a time in ms. */
export function toLocalField(ms: number): string {
  return formatTime(ms).replace(' ', 'T');
}
