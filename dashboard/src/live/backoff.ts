/** The pause before attempt `attempt` (from 0), in ms: doubles from 0.5 s to 15 s, then ±50 % jitter. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  const base = Math.min(15_000, 500 * 2 ** Math.min(attempt, 10));
  return Math.round(base * (0.5 + random()));
}
