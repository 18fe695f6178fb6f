/**
 * Bounded delay (Li et al., "Scaling distributed machine learning with the parameter server", OSDI 2014, §3.4): leases
 * are numbered in the order in which they are begun, and one begins when all those more than `delay` before it are in
 * or came to nothing. With delay 0 there is one at a time: sequential SGD, whoever computes it. The paper's best delay
 * for sparse logistic regression was 8.
 *
 * A lease that is granted may begin at any moment after its volunteer's last one has ended, so it is granted only where
 * that breaks nothing: for each lease that is out, those begun since and those that others may yet begin are together
 * at most `delay`. So the lease that a slow volunteer has at hand does not keep others from going on beside its first
 * one. Who has nothing to do waits in a line, and a place is kept for everybody before: whoever has just brought a
 * lease, or wants one to have at hand, comes after them.
 *
 * A lease that its volunteer never brings back holds the others until it expires, or until the same volunteer begins
 * another one: it has given the first one up.
 */
import type { Bound } from './bound.ts'
import type { Ask } from './strategy.ts'

interface Begun {
  readonly lease: string
  /** How many had been begun with it and before. */
  readonly number: number
}

export class BoundedDelay implements Bound {
  private readonly delay: number
  /** By volunteer, the lease that it has begun and that is out. */
  private readonly begun = new Map<string, Begun>()
  /** Begun, out, and given up. */
  private readonly givenUp = new Set<string>()
  /** How many of its leases a volunteer has not begun; who has none is not in it. */
  private readonly unbegun = new Map<string, number>()
  /** Who was told to wait and has nothing to do, in that order. */
  private readonly line = new Set<string>()
  private numbers = 0

  constructor(delay: number) {
    this.delay = delay
  }

  wait({ volunteer, idle }: Ask): string | null {
    for (const other of this.line) if (other !== volunteer && idle(other)) this.line.delete(other)
    const place = [...this.line].indexOf(volunteer)
    const before = place < 0 ? this.line.size : place
    if (this.mayBegin(volunteer, before)) return null
    if (!this.begun.has(volunteer) && !this.unbegun.has(volunteer)) this.line.add(volunteer)
    return this.delay === 0
      ? 'bounded delay: leases are computed one after the other'
      : `bounded delay: the next lease starts when all those more than ${this.delay} before it are in`
  }

  /**
   * One more lease of this volunteer and of so many others, begun whenever they may be, keep every lease that is out
   * within the delay.
   */
  private mayBegin(volunteer: string, before: number): boolean {
    // Not even the one behind its own: the next turn is another's.
    if (this.delay === 0) return this.begun.size + this.unbegun.size + before === 0
    let coming = 1 + before
    for (const count of this.unbegun.values()) coming += count
    /** A lease of `holder` that is out, with so many begun since, while those that do not come after it begin, too. */
    const within = (holder: string, since: number) => {
      const after = (this.unbegun.get(holder) ?? 0) + (holder === volunteer ? 1 : 0)
      return since + coming - after <= this.delay
    }
    return (
      within(volunteer, 0) &&
      [...this.unbegun.keys()].every((holder) => within(holder, 0)) &&
      [...this.begun].every(([holder, { number }]) => within(holder, this.numbers - number))
    )
  }

  granted(volunteer: string): void {
    this.line.delete(volunteer)
    this.unbegun.set(volunteer, (this.unbegun.get(volunteer) ?? 0) + 1)
  }

  started(lease: string, volunteer: string): void {
    this.noLongerUnbegun(volunteer)
    const before = this.begun.get(volunteer)
    if (before !== undefined) this.givenUp.add(before.lease)
    this.begun.set(volunteer, { lease, number: ++this.numbers })
  }

  ended(lease: string, volunteer: string): void {
    if (this.givenUp.delete(lease)) return
    if (this.begun.get(volunteer)?.lease === lease) this.begun.delete(volunteer)
    else this.noLongerUnbegun(volunteer)
  }

  private noLongerUnbegun(volunteer: string): void {
    const left = (this.unbegun.get(volunteer) ?? 0) - 1
    if (left > 0) this.unbegun.set(volunteer, left)
    else this.unbegun.delete(volunteer)
  }

  turnedAway(volunteer: string): void {
    this.line.delete(volunteer)
  }

  /** What it has begun may still come in. */
  left(volunteer: string): void {
    this.line.delete(volunteer)
  }

  fetched(): number {
    return 0
  }

  /** What must be in is in the newest version only. */
  fresh(): boolean {
    return false
  }
}
