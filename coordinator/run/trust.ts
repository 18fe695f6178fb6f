/**
 * Trust: no number from a volunteer is believed before it is checked. What can be checked without recomputing:
 * the update is finite, and its length (Euclidean norm per minibatch) is not out of all proportion to what was
 * accepted lately from everybody. An update is refused, never clipped silently.
 */
import { type Refusal, refuse } from '../../shared/protocol.ts'

/** Norms of minibatches are heavy-tailed when a model has nearly converged: the longest is kept, and fades by this. */
const FORGET = 0.98
/** Volunteers whose norms are remembered. */
const VOLUNTEERS_REMEMBERED = 256
/** Before so many updates were accepted, only the absolute bound holds. */
const ACCEPTED_MIN = 16
/** An update may be this many times as long as the median over the volunteers. */
const NORM_FACTOR = 20
/** The bound never falls below this, so that a converged model may still learn from a hard example. */
const NORM_FLOOR = 1
/**
 * Where the norms of everybody have grown past the bound, it is the bound that is wrong: it doubles when so many
 * refusals, none accepted in between, came from most of the volunteers.
 */
const REFUSED_MAX = 32
/** So many refusals in a row for their numbers, none accepted in between, and nobody is believed any more. */
const DISBELIEVED_MAX = 4
/** Longest mean gradient of a minibatch that a healthy model gives; never more is taken. */
const NORM_MAX = 1e4

export class Trust {
  /** Each volunteer's longest accepted norm, slowly forgotten: one volunteer is one voice, however much it sends. */
  private readonly norms = new Map<string, number>()
  private seen = 0
  private limit = NORM_MAX
  /** Since the last acceptance: how many were refused for their norm, and whose they were. */
  private tooLong = 0
  private readonly refusedOf = new Set<string>()
  private disbelievedInARow = 0
  /** The last trial point of which somebody said that it has no loss, and who did. */
  private beyond = { version: -1, voices: new Set<string>() }

  /**
   * `sumOfSquares` of the decoded update (NaN or infinite where an element is), over so many minibatches. `absolute`:
   * whoever sends it is trusted, or where it was computed nobody has been yet, so others' norms say nothing of it.
   */
  judge(
    volunteer: string,
    sumOfSquares: number,
    minibatches: number,
    bound: 'relative' | 'absolute' = 'relative',
  ): Refusal | null {
    if (!Number.isFinite(sumOfSquares)) return refuse('non-finite', 'the update holds a NaN or an infinity')
    const norm = normOf(sumOfSquares, minibatches)
    const limit = bound === 'absolute' ? NORM_MAX : this.limit
    if (norm <= limit) return null
    const message = `the update's norm is ${norm.toPrecision(3)} a minibatch; at most ${limit.toPrecision(3)} is taken now`
    this.refusedOf.add(volunteer)
    if (++this.tooLong % REFUSED_MAX === 0 && this.refusedOf.size > this.norms.size / 2) {
      this.limit = Math.min(NORM_MAX, 2 * this.limit)
    }
    return refuse('norm-too-large', message)
  }

  /**
   * At a trial point the volunteer says that the loss is no number there. One voice could end a search by that: it is
   * believed when two say so of one version, or where nobody else is there to ask.
   */
  outside(volunteer: string, version: number, alone: boolean): Refusal | null {
    if (this.beyond.version !== version) this.beyond = { version, voices: new Set() }
    const { voices } = this.beyond
    voices.add(volunteer)
    if (alone || voices.size > 1) return null
    return refuse('non-finite', 'the loss is not finite at a point where others may say otherwise: they are asked')
  }

  /** Nobody was believed lately. */
  get exhausted(): boolean {
    return this.disbelievedInARow >= DISBELIEVED_MAX
  }

  /** Somebody's update was refused for its numbers, by whatever check. */
  disbelieved(): void {
    this.disbelievedInARow++
  }

  /** Somebody was believed, by whatever check. */
  believed(): void {
    this.disbelievedInARow = 0
  }

  /** An update of this length was taken. */
  accepted(volunteer: string, sumOfSquares: number, minibatches: number): void {
    this.believed()
    this.tooLong = 0
    this.refusedOf.clear()
    const before = this.norms.get(volunteer) ?? 0
    this.norms.delete(volunteer)
    this.norms.set(volunteer, Math.max(normOf(sumOfSquares, minibatches), FORGET * before))
    if (this.norms.size > VOLUNTEERS_REMEMBERED) this.norms.delete(this.norms.keys().next().value!)
    // Sorting for every update would cost more than the update; the bound may lag by a few.
    if (++this.seen % ACCEPTED_MIN === 0) {
      const sorted = [...this.norms.values()].sort((a, b) => a - b)
      // Of two the lower one: who is alone with its norms does not move the bound by itself.
      const median = sorted[(sorted.length - 1) >> 1]
      this.limit = Math.min(NORM_MAX, Math.max(NORM_FLOOR, NORM_FACTOR * median))
    }
  }
}

const normOf = (sumOfSquares: number, minibatches: number): number => Math.sqrt(sumOfSquares) / Math.max(1, minibatches)
