/**
 * The stale synchronous parallel model (Ho et al. 2013, §3; Petuum Bösen): a volunteer's clock is how many leases of it
 * were folded in, and nobody works more than `clocks` ahead of the slowest. A lease of clock c, the volunteer's c-th,
 * is granted when c ≤ min + clocks, min being the slowest volunteer's clock. So it is computed on parameters that hold
 * every update of the clocks before c − clocks, and perhaps more; with clocks = 0 this is bulk synchronous (BSP): all
 * do one lease, then all the next.
 *
 * A crowd is not a cluster, so not everybody is waited for. A volunteer counts from its first lease on, and begins at
 * the slowest one's clock. It counts no more, until it is granted a lease again, when it has left, when its last lease
 * came to nothing, or when it has no lease and does not ask for one either (Ask.idle) or gets none (warm start).
 *
 * Bösen's rule for cached rows holds for a replica that goes on without a fetch: what it fetched when the slowest was
 * at clock f is fresh enough for clock c where f ≥ c − clocks.
 */
import type { Bound } from './bound.ts'
import type { Ask } from './strategy.ts'

interface Clock {
  /** Its leases that were folded in, counted from the clock it began at. */
  time: number
  /** Leases that it has not begun. */
  granted: number
  readonly started: Set<string>
}

/** The slowest clock, and those who stand at it without a lease. */
interface Slowest {
  readonly time: number
  readonly resting: readonly string[]
}

const out = ({ granted, started }: Clock): number => granted + started.size

export class StaleSynchronous implements Bound {
  private readonly clocks: number
  private readonly present = new Map<string, Clock>()
  /** Leases that are out with volunteers that left: they are nobody's clock. */
  private readonly strays = new Set<string>()
  /** null when it must be looked for again: many ask, and wait, between one change and the next. */
  private known: Slowest | null = { time: 0, resting: [] }
  /** The slowest clock when somebody was last present: it never goes back. */
  private last = 0

  constructor(clocks: number) {
    this.clocks = clocks
  }

  wait({ volunteer, idle }: Ask): string | null {
    const own = this.present.get(volunteer)
    if (own === undefined) return null
    while (own.time + out(own) > this.slowest.time + this.clocks) {
      const gone = this.slowest.resting.filter((other) => other !== volunteer && idle?.(other))
      if (gone.length === 0) {
        return this.clocks === 0
          ? 'stale synchronous: the next lease starts when every volunteer is done with this one'
          : `stale synchronous: the next lease starts when nobody is more than ${this.clocks} leases behind it`
      }
      for (const other of gone) this.forget(other)
    }
    return null
  }

  granted(volunteer: string): void {
    const own = this.present.get(volunteer) ?? { time: this.slowest.time, granted: 0, started: new Set() }
    own.granted++
    this.present.set(volunteer, own)
    this.known = null
  }

  started(lease: string, volunteer: string): void {
    const own = this.present.get(volunteer)
    if (own === undefined) return
    own.granted--
    own.started.add(lease)
  }

  ended(lease: string, volunteer: string, folded: boolean): void {
    if (this.strays.delete(lease)) return
    const own = this.present.get(volunteer)
    if (own === undefined) return
    const begun = own.started.delete(lease)
    if (folded) own.time += begun ? 1 : 0
    else if (!begun) own.granted--
    // Its lease came to nothing and it has no other: it may never ask again.
    if (!folded && out(own) === 0) this.forget(volunteer)
    this.known = null
  }

  turnedAway(volunteer: string): void {
    const own = this.present.get(volunteer)
    if (own !== undefined && out(own) === 0) this.forget(volunteer)
  }

  left(volunteer: string): void {
    for (const lease of this.present.get(volunteer)?.started ?? []) this.strays.add(lease)
    this.forget(volunteer)
  }

  fetched(): number {
    return this.slowest.time
  }

  fresh(volunteer: string, fetched: number): boolean {
    const own = this.present.get(volunteer)
    return own !== undefined && fetched >= own.time + own.started.size - this.clocks
  }

  private forget(volunteer: string): void {
    // Where nobody is left, the clocks go on from here.
    this.last = this.slowest.time
    this.present.delete(volunteer)
    this.known = null
  }

  private get slowest(): Slowest {
    this.known ??= this.find()
    return this.known
  }

  private find(): Slowest {
    let time = Number.POSITIVE_INFINITY
    for (const clock of this.present.values()) time = Math.min(time, clock.time)
    if (time === Number.POSITIVE_INFINITY) return { time: this.last, resting: [] }
    const resting: string[] = []
    for (const [volunteer, clock] of this.present) if (clock.time === time && out(clock) === 0) resting.push(volunteer)
    return { time, resting }
  }
}
