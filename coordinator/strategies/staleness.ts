/**
 * Staleness weights: what an update counts for that was computed τ versions ago. A weight multiplies the gradient
 * before the update rule, so with rule sgd it is the same as a smaller rate. At τ = 0 every one of them is exactly 1.
 *
 * The journal is folded again on other machines, so a weight has the same bits everywhere: + − · / and √ are rounded
 * correctly by IEEE 754, Math.pow is not.
 */
import type { PolicySpec } from '../../shared/strategy-spec.ts'

/** The weight, in (0, 1], of an update that is `staleness` versions old. */
export function stalenessWeight(weight: PolicySpec['weight'], staleness: number): number {
  switch (weight.name) {
    case 'none':
      return 1
    // Staleness-aware ASGD (Zhang, Gupta, Lian & Liu 2015, §3.3): the rate divided by the staleness.
    case 'inverse':
      return 1 / Math.max(1, staleness)
    // FedAsync's polynomial s(τ) = (1+τ)^-a (Xie, Koyejo & Gupta 2019, §5.2), which FedBuff takes with a = 1/2.
    case 'power':
      return power(1 + staleness, weight.exponent)
    // FedAsync's hinge, same place: as it is up to b versions, then 1/(a·(τ − b) + 1).
    case 'hinge':
      return staleness <= weight.from ? 1 : 1 / (weight.slope * (staleness - weight.from) + 1)
  }
}

/** base^-exponent. */
function power(base: number, exponent: number): number {
  if (exponent === 0.5) return 1 / Math.sqrt(base)
  // Math.pow may differ between machines in its last bits: rounded to six digits, as the cosine in schedule.ts, it does
  // not.
  return Number((base ** -exponent).toPrecision(6))
}
