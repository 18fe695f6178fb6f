/**
 * A crowd under a bound on who may run ahead, in random schedules: volunteers that ask, begin, return, lose leases,
 * leave, come back and fall asleep in any order. A log of its own says what each lease may read and who may be how far
 * ahead.
 */
import fc from 'fast-check'
import { expect } from 'vitest'
import { Epochs, type Stretch } from '../../coordinator/strategies/epochs.ts'
import { askOf, DownpourBench, settledOf } from './downpour-bench.ts'

interface Lease {
  readonly id: string
  readonly who: string
  /** In the order in which they were begun; null until then, and when it is given up. */
  number: number | null
  readonly stretches: Stretch[]
  /** Which stay of its volunteer it belongs to: one that it left out is no clock of the next. */
  stay: number
  version: number | null
}

interface Presence {
  clock: number
  /** The clock it began at, and how often it has come before. */
  readonly since: number
  readonly stay: number
}

const LEASES_PER_VOLUNTEER = 2
/** The stay of a lease that is nobody's clock. */
const LOOSE = -1

/** A crowd that does one example a lease; every fold is a version. */
export class BoundCrowd {
  readonly bench: DownpourBench
  readonly epochs: Epochs
  readonly clocks: number
  out: Lease[] = []
  version = 0
  readonly present = new Map<string, Presence>()
  readonly asleep = new Set<string>()
  readonly gone = new Set<string>()
  /** Let a lease come to nothing that it had begun, and has returned none since. */
  readonly unproven = new Set<string>()
  private readonly stays = new Map<string, number>()
  /** Of every volunteer, the version that the fold of its clock c made. */
  private readonly folded = new Map<string, Map<number, number>>()
  private granted = 0
  private begun = 0
  private last = 0
  continued = 0

  constructor(bound: object, { examples = 400, leasesPerFetch = 1, clocks = Number.POSITIVE_INFINITY } = {}) {
    const strategy = { batchSize: 1, pushEvery: 1, fetchEvery: leasesPerFetch, policy: { bound } }
    this.bench = new DownpourBench({ initial: new Float32Array(4), strategy })
    this.epochs = new Epochs(examples, 1)
    this.clocks = clocks
  }

  of(who: string): Lease[] {
    return this.out.filter((lease) => lease.who === who)
  }

  private idle(who: string): boolean {
    return this.asleep.has(who) && this.of(who).length === 0
  }

  private get slowest(): number {
    return this.present.size === 0 ? this.last : Math.min(...[...this.present.values()].map(({ clock }) => clock))
  }

  private forget(who: string): void {
    this.last = this.slowest
    this.present.delete(who)
  }

  ask(volunteer: string): boolean {
    if (this.of(volunteer).length >= LEASES_PER_VOLUNTEER) return false
    this.asleep.delete(volunteer)
    this.gone.delete(volunteer)
    const idle = (who: string) => this.idle(who)
    const draft = this.bench.strategy.next(askOf(this.epochs, { volunteer, idle }))
    this.dropIdle(volunteer)
    if ('wait' in draft) return false
    this.grant(volunteer, draft.stretches)
    return true
  }

  /** Who is asleep at the slowest clock is not waited for. */
  private dropIdle(asker: string): void {
    const own = this.present.get(asker)
    if (own === undefined) return
    while (this.ahead(asker) > this.slowest + this.clocks) {
      const { slowest } = this
      const dropped = [...this.present].filter(
        ([who, { clock }]) => clock === slowest && who !== asker && this.idle(who),
      )
      if (dropped.length === 0) return
      for (const [who] of dropped) this.forget(who)
    }
  }

  /** The clock of the next lease of a volunteer. */
  private ahead(who: string): number {
    const own = this.present.get(who)
    return own === undefined ? this.slowest : own.clock + this.of(who).filter(({ stay }) => stay === own.stay).length
  }

  private grant(who: string, stretches: Stretch[]): void {
    if (this.unproven.has(who) || this.of(who).some(({ stay, version }) => stay === LOOSE && version === null)) {
      this.out.push({ id: `l${this.granted++}`, who, number: null, stretches, stay: LOOSE, version: null })
      return
    }
    expect(this.ahead(who)).toBeLessThanOrEqual(this.slowest + this.clocks)
    if (!this.present.has(who)) {
      const stay = (this.stays.get(who) ?? 0) + 1
      this.stays.set(who, stay)
      this.present.set(who, { clock: this.slowest, since: this.slowest, stay })
      this.folded.set(who, new Map())
    }
    const { stay } = this.present.get(who)!
    this.out.push({ id: `l${this.granted++}`, who, number: null, stretches, stay, version: null })
  }

  /** Begins the oldest lease that it has not begun, if it computes none; returns the version it reads. */
  start(who: string): { lease: Lease; clock: number } | null {
    const held = this.of(who)
    const lease = held.find(({ version }) => version === null)
    const own = this.present.get(who)
    if (lease === undefined || held.some(({ version }) => version !== null)) return null
    const binding = this.begin(lease)
    if (own === undefined || own.stay !== lease.stay) return { lease, clock: 0 }
    this.read(own.clock, binding.version)
    return { lease, clock: own.clock }
  }

  /** Begins the next lease while one that it computes is out, which is given up by that. */
  startAnother(who: string): void {
    const computed = this.of(who).find(({ version }) => version !== null)
    const next = this.of(who).find(({ version }) => version === null)
    if (computed === undefined || next === undefined) return
    computed.number = null
    this.begin(next)
  }

  begin(lease: Lease): { version: number } {
    const binding = this.bench.strategy.bind(lease.id, lease.who, this.version, 0.1)
    lease.version = binding.version
    lease.number = this.begun++
    if (binding.continues !== null) this.continued++
    return binding
  }

  /** A lease of clock c reads every update of the clocks before c - s of those who are there. */
  private read(clock: number, version: number): void {
    for (const [who, { since }] of this.present) {
      for (let other = since; other < clock - this.clocks; other++) {
        const made = this.folded.get(who)!.get(other) ?? Number.POSITIVE_INFINITY
        // No expect() here: millions of them would take minutes.
        if (made > version)
          throw new Error(`clock ${clock} reads version ${version}; clock ${other} of ${who} is in ${made}`)
      }
    }
  }

  settle(who: string): boolean {
    const lease = this.of(who).find(({ version }) => version !== null)
    if (lease === undefined) return false
    this.end(lease)
    this.epochs.settle(lease.stretches)
    this.bench.strategy.fold(settledOf(lease.id, who, lease.stretches))
    this.version++
    this.unproven.delete(who)
    const own = this.present.get(who)
    if (own?.stay === lease.stay) this.folded.get(who)!.set(own.clock++, this.version)
    return true
  }

  lose(lease: Lease): void {
    this.end(lease)
    this.epochs.giveBack(lease.stretches)
    this.bench.strategy.lost(lease.id, lease.who)
    const own = this.present.get(lease.who)
    if (own?.stay !== lease.stay) return
    const others = this.of(lease.who).filter(({ stay }) => stay === own.stay)
    if (lease.version !== null) {
      this.unproven.add(lease.who)
      for (const other of others) other.stay = LOOSE
    }
    if (lease.version !== null || others.length === 0) this.forget(lease.who)
  }

  /** As a run does it: what it has not begun is lost, what it computes may still come. */
  leave(who: string): void {
    for (const lease of this.of(who)) if (lease.version === null) this.lose(lease)
    this.gone.add(who)
    this.unproven.delete(who)
    this.bench.strategy.left(who)
    if (this.present.has(who)) this.forget(who)
  }

  private end(lease: Lease): void {
    this.out = this.out.filter((other) => other !== lease)
  }

  /** How far the lease that is farthest ahead is before the slowest volunteer. */
  get spread(): number {
    return Math.max(0, ...[...this.present.keys()].map((who) => this.ahead(who) - 1 - this.slowest))
  }

  /** Those who are there finish the epoch; who sleeps or has left does not come back, and its leases expire. */
  finish(volunteers: readonly string[]): void {
    for (const lease of this.out) if (this.gone.has(lease.who)) this.lose(lease)
    const working = volunteers.filter((who) => !this.gone.has(who) && !(this.asleep.has(who) && this.idle(who)))
    if (working.length === 0) working.push('late')
    for (let moved = true; !this.epochs.finished; ) {
      expect(moved).toBe(true)
      moved = false
      for (const who of working) {
        const did = [this.ask(who), this.start(who) !== null, this.settle(who)]
        moved ||= did.includes(true)
      }
    }
  }
}

export const VOLUNTEERS = ['ann', 'bob', 'cid', 'dot', 'eve']
export const working = ['ask', 'start', 'settle'] as const
const acts = [...working, ...working, 'ask', 'expire', 'giveBack', 'leave', 'sleep'] as const
export const schedule = fc.array(fc.tuple(fc.constantFrom(...acts), fc.constantFrom(...VOLUNTEERS)), {
  maxLength: 250,
  size: 'max',
})

export function act(crowd: BoundCrowd, what: (typeof acts)[number], who: string): void {
  if (what === 'expire' || what === 'giveBack') {
    const lease = crowd.of(who).at(what === 'expire' ? 0 : -1)
    if (lease !== undefined) crowd.lose(lease)
  } else if (what === 'sleep') {
    if (crowd.of(who).length === 0) crowd.asleep.add(who)
  } else crowd[what](who)
}
