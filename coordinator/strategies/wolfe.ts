/**
 * A line search for the strong Wolfe conditions: along a direction of descent, with φ(t) the loss after a step of t, a
 * t
 *
 *     φ(t) ≤ φ(0) + c₁·t·φ'(0)   (it falls enough)   and   |φ'(t)| ≤ c₂·|φ'(0)|   (it has flattened enough).
 *
 * Nocedal & Wright, Numerical Optimization, algorithms 3.5 and 3.6, with the constants and the departures of Breeze's
 * StrongWolfeLineSearch (ALGORITHMS §1.3). An evaluation of φ is a pass over all examples by a crowd, so the search is
 * a value between evaluations: `begin` and `proceed` say at which t φ is wanted next, or how the search ended.
 * A search is plain JSON and is never changed. Without a clock or randomness: the same probes give the same search.
 *
 *     reach ──falls too little, or rises behind it──► zoom ──► accepted
 *       │ ▲                                            │
 *       │ └─ not finite: t/2; still falls steeply: 1.5·t └─► failed, after ZOOMS
 *       └──► accepted; failed, after REACHES
 */

/** φ and φ' at t. */
interface Probe {
  readonly t: number
  readonly value: number
  readonly slope: number
}

/** An end of the bracket; null where φ is not finite. */
type Edge = Probe | { readonly t: number; readonly value: null; readonly slope: null }

export interface Search {
  /** At t = 0. */
  readonly origin: Probe
  readonly phase: 'reach' | 'zoom'
  /** Where φ is wanted. */
  readonly t: number
  /** Evaluations that this phase has had. */
  readonly tries: number
  /** The best end of the bracket: of all points that fall enough the lowest. */
  readonly low: Probe
  /** The other end; null while reaching. */
  readonly high: Edge | null
}

export type Progress =
  | { readonly kind: 'probe'; readonly search: Search }
  /** The probe just given fulfils both conditions. */
  | { readonly kind: 'accepted'; readonly t: number }
  | { readonly kind: 'failed' }

/** c₁: what share of the fall that the slope at 0 promises must be there. */
export const SUFFICIENT_DECREASE = 1e-4
/** c₂: what share of the slope at 0 may be left. */
export const CURVATURE = 0.9
/** Most evaluations of each phase. */
const REACHES = 10
const ZOOMS = 10
const GROWTH = 1.5
/** The interpolated step keeps this share of the bracket away from either end. */
const MARGIN = 0.1

/** A search from φ(0) = `value` with φ'(0) = `slope`, which looks at `t` first. Fails where it does not lead down. */
export function begin(value: number, slope: number, t: number): Progress {
  if (!(slope <= 0 && t > 0 && t < Number.POSITIVE_INFINITY)) return { kind: 'failed' }
  const origin = { t: 0, value, slope }
  return { kind: 'probe', search: { origin, phase: 'reach', t, tries: 0, low: origin, high: null } }
}

/** The search goes on: φ(search.t) is `value`, not finite where the step left the domain, and φ' there `slope`. */
export function proceed(search: Search, value: number, slope: number): Progress {
  const finite = Number.isFinite(value) && Number.isFinite(slope)
  const at = finite ? { t: search.t, value, slope } : null
  return search.phase === 'reach' ? reach(search, at) : zoom(search, at)
}

function reach(search: Search, at: Probe | null): Progress {
  const { origin, low, t } = search
  const tries = search.tries + 1
  const onward = (next: number, best: Probe): Progress =>
    tries < REACHES ? { kind: 'probe', search: { ...search, t: next, tries, low: best } } : { kind: 'failed' }
  if (at === null) return onward(t / 2, low)
  if (!fallsEnough(origin, at) || (at.value >= low.value && search.tries > 0)) return bracketed(origin, low, at)
  if (flatEnough(origin, at)) return { kind: 'accepted', t }
  if (at.slope >= 0) return bracketed(origin, at, low)
  return onward(t * GROWTH, at)
}

const bracketed = (origin: Probe, low: Probe, high: Edge): Progress => ({
  kind: 'probe',
  search: { origin, phase: 'zoom', t: inside(low, high), tries: 0, low, high },
})

function zoom(search: Search, at: Probe | null): Progress {
  const { origin, low, t } = search
  const tries = search.tries + 1
  const narrowed = (best: Probe, high: Edge): Progress =>
    tries < ZOOMS
      ? { kind: 'probe', search: { ...search, t: inside(best, high), tries, low: best, high } }
      : { kind: 'failed' }
  if (at === null) return narrowed(low, { t, value: null, slope: null })
  if (!fallsEnough(origin, at) || at.value >= low.value) return narrowed(low, at)
  if (flatEnough(origin, at)) return { kind: 'accepted', t }
  return narrowed(at, at.slope * (search.high!.t - low.t) >= 0 ? low : search.high!)
}

const fallsEnough = (origin: Probe, { t, value }: Probe) =>
  value <= origin.value + SUFFICIENT_DECREASE * t * origin.slope

const flatEnough = (origin: Probe, { slope }: Probe) => Math.abs(slope) <= CURVATURE * Math.abs(origin.slope)

/**
 * The minimum of the cubic with both ends' values and slopes (Nocedal & Wright, eq. 3.59), clamped away from the ends.
 * Where there is no such minimum (or no value at an end), the middle; Breeze goes on with NaN there, and fails.
 */
function inside(a: Probe, b: Edge): number {
  const [left, right] = a.t <= b.t ? [a, b] : [b, a]
  const width = right.t - left.t
  if (left.value === null || right.value === null) return left.t + width / 2
  const d1 = left.slope + right.slope - (3 * (left.value - right.value)) / (left.t - right.t)
  const d2 = Math.sqrt(d1 * d1 - left.slope * right.slope)
  const t = right.t - (width * (right.slope + d2 - d1)) / (right.slope - left.slope + 2 * d2)
  if (Number.isNaN(t)) return left.t + width / 2
  return Math.min(Math.max(t, left.t + MARGIN * width), left.t + (1 - MARGIN) * width)
}
