/** What is measured against what was claimed. */
import { type Claim, meanOf } from './row.ts'

export interface Verdict {
  readonly mean: number
  readonly min: number
  readonly max: number
  /** Measured over reference; null where there is none. */
  readonly ratio: number | null
  /** null where the figure is only reported. */
  readonly reached: boolean | null
  readonly aimed: boolean | null
}

export function judge(claim: Claim): Verdict {
  const { values, reference, better, reach, aim, judged = 'mean' } = claim
  const mean = meanOf(values)
  const [min, max] = [Math.min(...values), Math.max(...values)]
  const value = judged === 'mean' ? mean : better === 'higher' ? min : max
  const meets = (bound: number | null): boolean | null => {
    if (bound === null) return null
    // Not a number is no figure at all.
    if (better === 'near') return Math.abs(value / reference! - 1) <= bound
    return better === 'lower' ? value <= bound : value >= bound
  }
  return {
    mean,
    min,
    max,
    ratio: reference === null ? null : mean / reference,
    reached: meets(reach),
    aimed: meets(aim),
  }
}

export const missed = (claims: readonly Claim[]): Claim[] => claims.filter((claim) => judge(claim).reached === false)
