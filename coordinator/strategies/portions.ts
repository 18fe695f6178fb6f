/**
 * The portions of a pass over all examples (Sandblaster, Dean et al. 2012, §4.2), and which of them a volunteer gets.
 *
 * A pass is every position once, in portions of fixed bounds, the same in every pass: much smaller than one
 * volunteer's share, so that the fast ones do more of them and nobody waits long for a slow one. A volunteer gets the
 * portions again that it did in the pass before, whose shards it has; then those that nobody did; then the last
 * ones of whoever has the most left. When none is free, those that are out may be given a second and a third time,
 * so that the pass does not end with its slowest volunteer: the first result counts.
 *
 * Who did what is only a hint: whatever is forgotten of it, every portion goes out, and once.
 */
import type { Epochs, Stretch } from './epochs.ts'
import type { Interval } from './intervals.ts'
import type { Ask } from './strategy.ts'

/** Volunteers that may work on the same portion: with more, the crowd would do little else at the end of a pass. */
export const HOLDERS_MAX = 3

/** Why who has one at hand gets no other. */
export const FOR_OTHERS = 'what is left is for those who have nothing to do'

export class Portions {
  readonly count: number
  private readonly examples: number
  private readonly size: number
  /** Positions that are in portions of full size; the rest, less than a block, is a portion of its own. */
  private readonly whole: number
  /** Who did each portion in the pass before, and who has in this one. */
  private before: (string | undefined)[] = []
  private now: (string | undefined)[] = []
  /** `before` by volunteer, in order. */
  private theirs = new Map<string, number[]>()

  /** Of `examples`, `size` each. With `block`, none holds blocks of two lengths: bounds are multiples of it. */
  constructor(examples: number, size: number, block = 1) {
    this.examples = examples
    this.size = Math.max(block, size - (size % block))
    this.whole = examples - (examples % block)
    this.count = Math.ceil(this.whole / this.size) + (this.whole < examples ? 1 : 0)
  }

  bounds(portion: number): Interval {
    const from = portion * this.size
    if (from >= this.whole) return { from: this.whole, to: this.examples }
    return { from, to: Math.min(this.whole, from + this.size) }
  }

  /** The portion that this is. Throws where it is none. */
  portionOf(stretch: Interval): number {
    const portion = this.at(stretch.from)
    const { from, to } = this.bounds(portion)
    if (stretch.from !== from || stretch.to !== to) {
      throw new Error(`invariant: [${stretch.from}, ${stretch.to}) is not a portion of a pass`)
    }
    return portion
  }

  /**
   * A portion before the `end`-th (at most `count`) that is free in the oldest open epoch, the best one for this
   * volunteer.
   */
  free(volunteer: string, epochs: Epochs, end: number): number | null {
    const own = this.theirs.get(volunteer)?.find((portion) => portion < end && epochs.isFree(this.bounds(portion)))
    return own ?? this.anybodys(epochs, end)
  }

  /** How many before the `end`-th are free in the oldest open epoch. */
  freeCount(epochs: Epochs, end: number): number {
    const within = ({ from, to }: Interval) => Math.max(0, Math.min(end, this.at(to - 1) + 1) - this.at(from))
    return epochs.freeInCurrent.reduce((sum, interval) => sum + within(interval), 0)
  }

  /** A portion of the pass `epoch` that is out with others, of those with the fewest holders the oldest. */
  backup({ volunteer, out }: Ask, epoch: number): number | null {
    let best: { stretch: Stretch; holders: number } | null = null
    for (const { stretches, volunteers } of out) {
      const holders = volunteers.length
      if (stretches[0]?.epoch !== epoch || holders >= HOLDERS_MAX || volunteers.includes(volunteer)) continue
      if (best === null || holders < best.holders) best = { stretch: stretches[0], holders }
    }
    return best && this.portionOf(best.stretch)
  }

  did(portion: number, volunteer: string): void {
    this.now[portion] = volunteer
  }

  /** The pass is over: who did what in it is who gets it in the next. */
  turn(): void {
    this.before = this.now
    this.now = []
    this.theirs = new Map()
    this.before.forEach((volunteer, portion) => {
      if (volunteer === undefined) return
      const own = this.theirs.get(volunteer)
      if (own === undefined) this.theirs.set(volunteer, [portion])
      else own.push(portion)
    })
  }

  left(volunteer: string): void {
    const kept = (other: string | undefined) => (other === volunteer ? undefined : other)
    if (this.theirs.delete(volunteer)) this.before = this.before.map(kept)
    this.now = this.now.map(kept)
  }

  /** The first that nobody did before, or else the last one of whoever has the most left. */
  private anybodys(epochs: Epochs, end: number): number | null {
    const left = new Map<string, { count: number; last: number }>()
    for (const { from, to } of epochs.freeInCurrent) {
      for (let portion = this.at(from); portion < end && this.bounds(portion).from < to; portion++) {
        const owner = this.before[portion]
        if (owner === undefined) return portion
        left.set(owner, { count: (left.get(owner)?.count ?? 0) + 1, last: portion })
      }
    }
    let most: { count: number; last: number } | null = null
    for (const theirs of left.values()) if (most === null || theirs.count > most.count) most = theirs
    return most?.last ?? null
  }

  /** The portion that a position is in. */
  private at(position: number): number {
    return position < this.whole ? Math.floor(position / this.size) : this.count - 1
  }
}
