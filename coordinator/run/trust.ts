/**
 * Trust: no number from a volunteer is believed before it is checked. What can be checked without recomputing:
 * the update is finite, and its length (Euclidean norm per minibatch) is not out of all proportion to what was
 * accepted lately. An update is refused, never clipped silently.
 */
import { type Refusal, refuse } from '../../shared/protocol.ts'

/** Norms remembered. */
const WINDOW = 256
/** Before so many are known, only the absolute bound holds. */
const WINDOW_MIN = 16
/** An update may be this many times as long as the long ones (95th percentile) among those remembered. */
const NORM_FACTOR = 10
/** The bound never falls below this, so that a converged model may still learn from a hard example. */
const NORM_FLOOR = 1
/** Where so many are refused and none accepted in between, it is the bound that is wrong: it doubles. */
const REFUSED_MAX = 32
/** Longest mean gradient of a minibatch that a healthy model gives before anything is known of it. */
const NORM_FIRST = 1e4

export class Trust {
  private readonly norms: number[] = []
  private seen = 0
  /** Updates refused for their norm since the last one that was accepted. */
  private tooLong = 0
  private limit = NORM_FIRST

  /** `sumOfSquares` of the decoded update (NaN or infinite where an element is), over so many minibatches. */
  judge(sumOfSquares: number, minibatches: number): Refusal | null {
    if (!Number.isFinite(sumOfSquares)) return refuse('non-finite', 'the update holds a NaN or an infinity')
    const norm = Math.sqrt(sumOfSquares) / Math.max(1, minibatches)
    if (norm <= this.limit) return null
    const message = `the update's norm is ${norm.toPrecision(3)} a minibatch; at most ${this.limit.toPrecision(3)} is taken now`
    if (++this.tooLong % REFUSED_MAX === 0) this.limit *= 2
    return refuse('norm-too-large', message)
  }

  accepted(sumOfSquares: number, minibatches: number): void {
    this.tooLong = 0
    this.norms.push(Math.sqrt(sumOfSquares) / Math.max(1, minibatches))
    if (this.norms.length > WINDOW) this.norms.shift()
    // Sorting 256 numbers for every update would cost more than the update; the bound may lag by a few.
    if (++this.seen % WINDOW_MIN === 0) {
      const sorted = [...this.norms].sort((a, b) => a - b)
      this.limit = Math.max(NORM_FLOOR, NORM_FACTOR * sorted[Math.floor(0.95 * (sorted.length - 1))])
    }
  }
}
