/**
 * Bounded delay (Li et al., "Scaling distributed machine learning with the parameter server", OSDI 2014, §3.4): leases
 * are numbered in the order in which they are granted, and one is granted when all those more than `delay` before it
 * are in or came to nothing. With delay 0 there is one at a time: sequential SGD, whoever computes it. The paper's best
 * delay for sparse logistic regression was 8.
 *
 * A lease that its volunteer never brings back holds the others until it expires.
 */
import type { Bound } from './bound.ts'
import type { Stretch } from './epochs.ts'
import type { Ask } from './strategy.ts'

export class BoundedDelay implements Bound {
  private readonly delay: number
  /** The numbers of leases that are out, by where their examples begin, which is on one lease only; oldest first. */
  private readonly numbers = new Map<string, number>()
  private next = 0

  constructor(delay: number) {
    this.delay = delay
  }

  wait({ out }: Ask): string | null {
    // What has ended is not out any more, however it ended. There are never more than delay + 1 of them.
    const still = new Set(out.map(({ stretches }) => beginning(stretches)))
    for (const where of this.numbers.keys()) if (!still.has(where)) this.numbers.delete(where)
    const [oldest = this.next] = this.numbers.values()
    if (this.next - oldest <= this.delay) return null
    return this.delay === 0
      ? 'bounded delay: leases are computed one after the other'
      : `bounded delay: the next lease starts when all those more than ${this.delay} before it are in`
  }

  granted(_volunteer: string, stretches: readonly Stretch[]): void {
    this.numbers.set(beginning(stretches), this.next++)
  }

  started(): void {}

  ended(): void {}

  turnedAway(): void {}

  left(): void {}

  fetched(): number {
    return 0
  }

  /** What must be in is in the newest version only. */
  fresh(): boolean {
    return false
  }
}

const beginning = ([{ epoch, from }]: readonly Stretch[]): string => `${epoch} ${from}`
