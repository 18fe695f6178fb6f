/**
 * A bound on who may run ahead, so that nobody computes on parameters that are too old. It holds volunteers back where
 * they ask for work; maxStaleness refuses what was computed in vain. What it knows is a hint: it is not journalled and
 * changes no fold, and after a crash all begin anew.
 *
 * An update is in when it is folded in. In a buffer (update-buffer.ts) it may wait there for the step that shows it.
 */
import type { PolicySpec } from '../../shared/strategy-spec.ts'
import { BoundedDelay } from './bounded-delay.ts'
import { StaleSynchronous } from './stale-synchronous.ts'
import type { Ask } from './strategy.ts'

export interface Bound {
  /** Why who asks must wait, in words for people; null where it need not. */
  wait(ask: Ask): string | null
  /** Who asked gets this. */
  granted(volunteer: string): void
  started(lease: string, volunteer: string): void
  /** A lease was folded in, or came to nothing. On replay nobody was granted what is folded in. */
  ended(lease: string, volunteer: string, folded: boolean): void
  /** Who asked was not let in, whatever the bound says: nobody waits for it. */
  turnedAway(volunteer: string): void
  /** The volunteer is gone; what it has begun may still be folded in, or come to nothing. */
  left(volunteer: string): void
  /** A mark of what is in when the newest version is fetched. */
  fetched(): number
  /** Whether parameters with this mark are new enough for the lease that the volunteer begins. */
  fresh(volunteer: string, fetched: number): boolean
}

export function openBound(spec: PolicySpec['bound']): Bound | null {
  switch (spec.name) {
    case 'none':
      return null
    case 'stale-synchronous':
      return new StaleSynchronous(spec.clocks)
    case 'bounded-delay':
      return new BoundedDelay(spec.delay)
  }
}
