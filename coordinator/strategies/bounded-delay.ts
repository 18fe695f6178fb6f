/**
 * Bounded delay (Li et al., "Scaling distributed machine learning with the parameter server", OSDI 2014, §3.4): leases
 * are numbered in the order in which they are begun, and one begins when all those more than `delay` before it are in or
 * came to nothing. With delay 0 there is one at a time: sequential SGD, whoever computes it. The paper's best delay for
 * sparse logistic regression was 8.
 *
 * A lease that is granted may begin at any moment after its volunteer's last one has ended, so it is granted only where
 * that breaks nothing: for each lease that is out, those begun since and those that others may yet begin are together at
 * most `delay`. Who is slow and has its next lease at hand takes no place from the others by that.
 *
 * A lease that its volunteer never brings back holds the others until it expires, or until that volunteer begins
 * another one: it has given the first one up.
 */
import type { Bound } from './bound.ts'
import type { Ask } from './strategy.ts'

interface Begun {
  readonly volunteer: string
  /** How many had been begun with it and before. */
  readonly number: number
}

export class BoundedDelay implements Bound {
  private readonly delay: number
  /** The leases that are begun and out, but for those that were given up. */
  private readonly begun = new Map<string, Begun>()
  private readonly givenUp = new Set<string>()
  /** How many of its leases a volunteer has not begun; who has none is not in it. */
  private readonly unbegun = new Map<string, number>()
  private numbers = 0

  constructor(delay: number) {
    this.delay = delay
  }

  wait({ volunteer }: Ask): string | null {
    if (this.delay === 0) {
      // Not even the one behind its own: the next turn is whoever's asks first.
      const out = this.begun.size + this.unbegun.size
      return out === 0 ? null : 'bounded delay: leases are computed one after the other'
    }
    let coming = 1
    for (const count of this.unbegun.values()) coming += count
    /** Of one that is out, with so many begun since: those that may still begin before it ends. */
    const room = (holder: string, since: number) => {
      const behindIt = (this.unbegun.get(holder) ?? 0) + (holder === volunteer ? 1 : 0)
      return since + coming - behindIt <= this.delay
    }
    const holds =
      room(volunteer, 0) &&
      [...this.unbegun.keys()].every((holder) => room(holder, 0)) &&
      [...this.begun.values()].every((lease) => room(lease.volunteer, this.numbers - lease.number))
    return holds ? null : `bounded delay: the next lease starts when all those more than ${this.delay} before it are in`
  }

  granted(volunteer: string): void {
    this.unbegun.set(volunteer, (this.unbegun.get(volunteer) ?? 0) + 1)
  }

  started(lease: string, volunteer: string): void {
    this.noLongerUnbegun(volunteer)
    for (const [before, { volunteer: holder }] of this.begun) {
      if (holder !== volunteer) continue
      this.begun.delete(before)
      this.givenUp.add(before)
    }
    this.begun.set(lease, { volunteer, number: ++this.numbers })
  }

  ended(lease: string, volunteer: string): void {
    if (this.begun.delete(lease) || this.givenUp.delete(lease)) return
    this.noLongerUnbegun(volunteer)
  }

  private noLongerUnbegun(volunteer: string): void {
    const left = (this.unbegun.get(volunteer) ?? 0) - 1
    if (left > 0) this.unbegun.set(volunteer, left)
    else this.unbegun.delete(volunteer)
  }

  turnedAway(): void {}

  /** What it has begun may still come in. */
  left(): void {}

  fetched(): number {
    return 0
  }

  /** What must be in is in the newest version only. */
  fresh(): boolean {
    return false
  }
}
