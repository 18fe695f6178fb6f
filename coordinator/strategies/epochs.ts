/**
 * Epochs with exact accounting: every training example counts once an epoch, whatever vanishes.
 *
 * An epoch's examples are positions 0..N-1 of a shuffled order (shards.ts says which example a position is). A
 * position is free, out (on a lease) or done, never two of them. A lease that is lost makes its positions free
 * again; a settled one makes those it did done and the rest free. When no position of the oldest open epoch is
 * free, the next one opens, so that nobody waits for stragglers; at most two are open, and an epoch is complete
 * when all its positions are done. Only `done` is durable: after a crash what was out is free.
 */
import { type Interval, Intervals } from './intervals.ts'

/** Positions [from, to) of an epoch. */
export interface Stretch extends Interval {
  readonly epoch: number
}

interface OpenEpoch {
  readonly epoch: number
  readonly free: Intervals
  readonly done: Intervals
}

export interface EpochsState {
  /** Epochs before this one are complete. */
  complete: number
  /** The done positions of the open epochs, from `complete` on. */
  done: Interval[][]
}

/** How many epochs may be under way at once. */
const OPEN_EPOCHS = 2

export const lengthOf = (stretches: readonly Stretch[]): number =>
  stretches.reduce((sum, { from, to }) => sum + to - from, 0)

export class Epochs {
  readonly examples: number
  readonly planned: number
  private complete: number
  private readonly open: OpenEpoch[]

  /** `examples` an epoch, `planned` epochs in all. */
  constructor(examples: number, planned: number, state: EpochsState = { complete: 0, done: [] }) {
    this.examples = examples
    this.planned = planned
    this.complete = state.complete
    this.open = state.done.map((intervals, i) => {
      const done = new Intervals(intervals)
      return { epoch: state.complete + i, done, free: done.complement({ from: 0, to: examples }) }
    })
  }

  toJSON(): EpochsState {
    return { complete: this.complete, done: this.open.map(({ done }) => [...done.toJSON()]) }
  }

  /** All planned epochs are complete. */
  get finished(): boolean {
    return this.complete >= this.planned
  }

  /** Passes over the examples so far, with fraction. */
  get progress(): number {
    return this.complete + this.open.reduce((sum, { done }) => sum + done.size, 0) / this.examples
  }

  /** The oldest epoch that is not complete. */
  get current(): number {
    return this.complete
  }

  /** Positions of the oldest open epoch that are done. */
  get doneInCurrent(): number {
    return this.open[0]?.done.size ?? 0
  }

  /** The open epochs as they stand, to look at. */
  inspect(): { epoch: number; free: Interval[]; done: Interval[] }[] {
    return this.open.map(({ epoch, free, done }) => ({ epoch, free: free.toJSON(), done: done.toJSON() }))
  }

  /** Free positions of the oldest open epoch, in order, to look at. */
  get freeInCurrent(): readonly Interval[] {
    return this.opened(0)?.free.toJSON() ?? []
  }

  /** All of these positions of the oldest open epoch are free. */
  isFree(within: Interval): boolean {
    return this.opened(0)?.free.covers(within) ?? false
  }

  /** Takes free positions for a lease, at most `count`, of one epoch, the oldest that has any; [] when none is free. */
  take(count: number): Stretch[] {
    for (let i = 0; i < OPEN_EPOCHS; i++) {
      const epoch = this.opened(i)
      if (epoch === null) return []
      const taken = epoch.free.take(count)
      if (taken.length > 0) return taken.map(({ from, to }) => ({ epoch: epoch.epoch, from, to }))
    }
    return []
  }

  /** Like take, but only of the oldest open epoch and only inside `within`. */
  takeWithin(count: number, within: Interval): Stretch[] {
    const epoch = this.opened(0)
    if (epoch === null) return []
    return epoch.free.take(count, within).map(({ from, to }) => ({ epoch: epoch.epoch, from, to }))
  }

  /** A lease is lost or did not do these: they are free again. */
  giveBack(stretches: readonly Stretch[]): void {
    for (const stretch of stretches) this.find(stretch.epoch).free.add(stretch)
  }

  /**
   * These were out and are done. On replay nothing is out, so they are taken from the free ones first.
   * Throws where a position is done already: an example would count twice.
   */
  settle(stretches: readonly Stretch[]): void {
    for (const stretch of stretches) {
      const { free, done } = this.find(stretch.epoch)
      free.take(stretch.to - stretch.from, stretch)
      done.add(stretch)
    }
    while (this.open.length > 0 && this.open[0].done.size === this.examples) {
      this.open.shift()
      this.complete++
    }
  }

  /** The i-th open epoch, opened now if need be; null past the planned ones. */
  private opened(i: number): OpenEpoch | null {
    while (this.open.length <= i) {
      const epoch = this.complete + this.open.length
      if (epoch >= this.planned) return null
      this.open.push({ epoch, free: new Intervals([{ from: 0, to: this.examples }]), done: new Intervals() })
    }
    return this.open[i]
  }

  private find(epoch: number): OpenEpoch {
    const found = epoch >= this.complete ? this.opened(epoch - this.complete) : null
    if (found === null) throw new Error(`invariant: epoch ${epoch} is not open`)
    return found
  }
}

/** The first `count` positions of the stretches, and the rest. */
export function split(stretches: readonly Stretch[], count: number): { head: Stretch[]; tail: Stretch[] } {
  const head: Stretch[] = []
  const tail: Stretch[] = []
  let left = count
  for (const { epoch, from, to } of stretches) {
    const cut = from + Math.min(left, to - from)
    left -= cut - from
    if (cut > from) head.push({ epoch, from, to: cut })
    if (cut < to) tail.push({ epoch, from: cut, to })
  }
  return { head, tail }
}
