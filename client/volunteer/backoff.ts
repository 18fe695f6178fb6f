/**
 * How long to wait before the next attempt: doubling from half a second to half a minute, the upper half of it at
 * random, so that a crowd cut off by one restart does not come back in one instant.
 */

const FIRST_MS = 500
const LONGEST_MS = 30_000

/** `attempt` counts from 0; `uniform` is a draw from [0, 1). */
export function backoffMs(attempt: number, uniform: number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt)
  return ceiling / 2 + (uniform * ceiling) / 2
}
