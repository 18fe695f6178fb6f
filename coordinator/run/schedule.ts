/** How the server's rate moves over a run. */
import type { RunSpec } from '../../shared/run-spec.ts'

/**
 * The rate when the share `progress` (0..1) of the planned examples is in: `rate` for the share `hold`, from there to
 * `rate·final`.
 */
export function rateAt({ shape, final, hold }: RunSpec['schedule'], rate: number, progress: number): number {
  const left = 1 - Math.min(1, Math.max(0, progress - hold) / (1 - hold))
  switch (shape) {
    case 'constant':
      return rate
    case 'linear':
      return rate * (final + (1 - final) * left)
    case 'cosine':
      // (1 - cos(π·left))/2 as a polynomial would differ in its last bits; Math.cos may differ between machines, so
      // the rate is rounded to float32's neighbourhood, where a last-bit difference of the float64 disappears.
      return Number((rate * (final + ((1 - final) * (1 - Math.cos(Math.PI * left))) / 2)).toPrecision(6))
  }
}
