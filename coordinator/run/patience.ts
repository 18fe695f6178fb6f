/**
 * How many times as long as usual the leases of a run may take [L5]: more since one came to nothing while nobody got
 * on, and as ever once such work is done in the usual time. It is of the run, and asks nobody how fast it is: what a
 * volunteer says of its speed, or once was, decides nothing.
 */
import type { StartedLease } from './leases.ts'

const MOST = 8

/** What is looked at of a lease. */
export type Tried = Pick<StartedLease, 'startedAt' | 'patience' | 'timeBoxed' | 'batchSize' | 'examples'>

export class Patience {
  private current = 1
  /** Examples of the largest piece of work that came to nothing since it was 1. */
  private undone = 0
  /** When an update was last accepted. */
  private settledAt = 0

  /** 1 to 8. */
  get times(): number {
    return this.current
  }

  /** So many examples of a lease were done; `usualMs`: what one may take without patience, to its deadline. */
  settled({ startedAt }: Tried, examples: number, usualMs: number, now: number): void {
    this.settledAt = now
    if ((now - startedAt) * this.undone > usualMs * examples) return
    this.current = 1
    this.undone = 0
  }

  /** A lease came to nothing; true where nobody else got on since it was started either. */
  expired({ startedAt, patience, timeBoxed, batchSize, examples }: Tried): boolean {
    if (startedAt < this.settledAt) return false
    // Of several that were granted with the same patience, one says as much as all.
    this.current = Math.max(this.current, Math.min(MOST, 2 * patience))
    // Of what is time-boxed a minibatch would have done.
    this.undone = Math.max(this.undone, timeBoxed ? Math.min(batchSize, examples) : examples)
    return true
  }
}
