/** A set of whole numbers as sorted, disjoint, non-touching intervals [from, to). */

export interface Interval {
  readonly from: number
  readonly to: number
}

export class Intervals {
  private list: Interval[] = []

  constructor(intervals: Iterable<Interval> = []) {
    for (const interval of intervals) this.add(interval)
  }

  /** How many numbers are in the set. */
  get size(): number {
    return this.list.reduce((sum, { from, to }) => sum + to - from, 0)
  }

  get empty(): boolean {
    return this.list.length === 0
  }

  toJSON(): Interval[] {
    return this.list
  }

  /** Adds [from, to); throws where a part of it is there already, since every number here is owned once. */
  add(interval: Interval): void {
    if (interval.to <= interval.from) return
    const after = this.firstEndingAfter(interval.from)
    const next = this.list[after]
    if (next !== undefined && next.from < interval.to) {
      throw new Error(`invariant: [${interval.from}, ${interval.to}) overlaps [${next.from}, ${next.to})`)
    }
    const previous = this.list[after - 1]
    const joinsPrevious = previous !== undefined && previous.to === interval.from
    const joinsNext = next !== undefined && next.from === interval.to
    const first = joinsPrevious ? after - 1 : after
    this.list.splice(first, (joinsPrevious ? 1 : 0) + (joinsNext ? 1 : 0), {
      from: joinsPrevious ? previous.from : interval.from,
      to: joinsNext ? next.to : interval.to,
    })
  }

  /** All of [from, to) is in the set. */
  covers({ from, to }: Interval): boolean {
    if (to <= from) return true
    const first = this.list[this.firstEndingAfter(from)]
    return first !== undefined && first.from <= from && to <= first.to
  }

  /** Takes out and returns the lowest numbers of the set inside `within`, at most `count` of them. */
  take(count: number, within: Interval = { from: 0, to: Number.POSITIVE_INFINITY }): Interval[] {
    const taken: Interval[] = []
    const kept: Interval[] = []
    let wanted = count
    for (const interval of this.list) {
      const from = Math.max(interval.from, within.from)
      const to = Math.min(interval.to, within.to, from + wanted)
      if (to <= from) {
        kept.push(interval)
        continue
      }
      wanted -= to - from
      taken.push({ from, to })
      if (interval.from < from) kept.push({ from: interval.from, to: from })
      if (to < interval.to) kept.push({ from: to, to: interval.to })
    }
    this.list = kept
    return taken
  }

  /** What of `whole` is not in the set. */
  complement(whole: Interval): Intervals {
    const rest = new Intervals([whole])
    for (const interval of this.list) rest.take(interval.to - interval.from, interval)
    return rest
  }

  private firstEndingAfter(value: number): number {
    let low = 0
    let high = this.list.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.list[middle].to > value) high = middle
      else low = middle + 1
    }
    return low
  }
}
