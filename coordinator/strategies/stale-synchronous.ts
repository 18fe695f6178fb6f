/**
 * The stale synchronous parallel model (Ho et al. 2013, §3; Petuum Bösen): a volunteer's clock is how many leases of it
 * were folded in, and nobody works more than `clocks` ahead of the slowest. A lease of clock c, the volunteer's c-th,
 * is granted when c ≤ min + clocks, min being the slowest volunteer's clock. So it is computed on parameters that hold
 * every update of the clocks before c − clocks, and perhaps more; with clocks = 0 this is bulk synchronous (BSP): all
 * do one lease, then all the next.
 *
 * A crowd is not a cluster, so not everybody is waited for. A volunteer counts from its first lease on, and begins at
 * the slowest one's clock. It counts no more, until it is granted a lease again, when it has left, when its last lease
 * came to nothing, or when it has no lease and does not ask for one either (Ask.idle) or gets none (warm start). Who
 * let a lease come to nothing that it had begun counts again only after an update of its own: else a tab that always
 * holds a lease and never returns one would hold the others for ever.
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
  /** Leases that are out and nobody's clock: of who left, or is not counted. */
  private readonly strays = new Set<string>()
  /** Who is not counted until an update of its own is folded in. */
  private readonly unproven = new Set<string>()
  /** Of the leases that are nobody's clock, how many are not begun. */
  private readonly loose = new Map<string, number>()
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
      const gone = this.slowest.resting.filter((other) => other !== volunteer && idle(other))
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
    const loose = this.loose.get(volunteer) ?? 0
    if (loose > 0 || this.unproven.has(volunteer)) {
      this.loose.set(volunteer, loose + 1)
      return
    }
    const own = this.present.get(volunteer) ?? { time: this.slowest.time, granted: 0, started: new Set() }
    own.granted++
    this.present.set(volunteer, own)
    this.known = null
  }

  started(lease: string, volunteer: string): void {
    // Leases are begun in the order in which they were granted.
    if (this.tighten(volunteer)) {
      this.strays.add(lease)
      return
    }
    const own = this.present.get(volunteer)
    if (own === undefined) return
    own.granted--
    own.started.add(lease)
  }

  ended(lease: string, volunteer: string, folded: boolean): void {
    if (folded) this.unproven.delete(volunteer)
    if (this.strays.delete(lease)) return
    const own = this.present.get(volunteer)
    const begun = own?.started.delete(lease) === true
    if (!folded && !begun && this.tighten(volunteer)) return
    if (own === undefined) return
    this.known = null
    if (folded) {
      own.time += begun ? 1 : 0
    } else if (begun) {
      this.unproven.add(volunteer)
      if (own.granted > 0) this.loose.set(volunteer, own.granted)
      this.strand(volunteer)
    } else {
      own.granted--
      // It has no other: it may never ask again.
      if (out(own) === 0) this.forget(volunteer)
    }
  }

  /** One of its leases that are not begun is no longer loose, if any is. */
  private tighten(volunteer: string): boolean {
    const loose = this.loose.get(volunteer) ?? 0
    if (loose > 1) this.loose.set(volunteer, loose - 1)
    else this.loose.delete(volunteer)
    return loose > 0
  }

  turnedAway(volunteer: string): void {
    const own = this.present.get(volunteer)
    if (own !== undefined && out(own) === 0) this.forget(volunteer)
  }

  left(volunteer: string): void {
    this.unproven.delete(volunteer)
    this.loose.delete(volunteer)
    this.strand(volunteer)
  }

  /** It counts no more, and what it has begun neither. */
  private strand(volunteer: string): void {
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
