/**
 * The bounds on who may run ahead, under random schedules: volunteers that ask, begin, return, lose leases, leave, come
 * back and fall asleep in any order. A log of its own says what each lease may read and who may be how far ahead.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Epochs, type Stretch } from '../../coordinator/strategies/epochs.ts'
import { askOf, DownpourBench, settledOf } from '../support/downpour-bench.ts'

interface Lease {
  readonly id: string
  readonly who: string
  /** In the order of grant. */
  readonly number: number
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
class Crowd {
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
  private last = 0
  waits = 0
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
    const out = this.out.map(({ stretches, who }) => ({ stretches, volunteers: [who] }))
    const idle = (who: string) => this.idle(who)
    const draft = this.bench.strategy.next(askOf(this.epochs, { volunteer, out, idle }))
    this.dropIdle(volunteer)
    if ('wait' in draft) {
      this.waits++
      return false
    }
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
      this.out.push({ id: `l${this.granted}`, who, number: this.granted++, stretches, stay: LOOSE, version: null })
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
    this.out.push({ id: `l${this.granted}`, who, number: this.granted++, stretches, stay, version: null })
  }

  /** Begins the oldest lease that it has not begun, if it computes none; returns the version it reads. */
  start(who: string): { lease: Lease; clock: number } | null {
    const held = this.of(who)
    const lease = held.find(({ version }) => version === null)
    const own = this.present.get(who)
    if (lease === undefined || held.some(({ version }) => version !== null)) return null
    const binding = this.bench.strategy.bind(lease.id, who, this.version, 0.1)
    lease.version = binding.version
    if (binding.continues !== null) this.continued++
    if (own === undefined || own.stay !== lease.stay) return { lease, clock: 0 }
    this.read(own.clock, binding.version)
    return { lease, clock: own.clock }
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

const VOLUNTEERS = ['ann', 'bob', 'cid', 'dot', 'eve']
const working = ['ask', 'start', 'settle'] as const
const acts = [...working, ...working, 'ask', 'expire', 'giveBack', 'leave', 'sleep'] as const
const schedule = fc.array(fc.tuple(fc.constantFrom(...acts), fc.constantFrom(...VOLUNTEERS)), {
  maxLength: 250,
  size: 'max',
})

function act(crowd: Crowd, what: (typeof acts)[number], who: string): void {
  if (what === 'expire' || what === 'giveBack') {
    const lease = crowd.of(who).at(what === 'expire' ? 0 : -1)
    if (lease !== undefined) crowd.lose(lease)
  } else if (what === 'sleep') {
    if (crowd.of(who).length === 0) crowd.asleep.add(who)
  } else crowd[what](who)
}

describe('stale-synchronous', () => {
  it.each([
    [0, 1],
    [1, 1],
    [3, 1],
    [2, 4],
    [1, 20],
  ])(
    '[B1] clocks %d, %d leases a fetch: nothing too old is read, nobody is too far ahead, nobody stalls',
    (clocks, leasesPerFetch) => {
      fc.assert(
        fc.property(schedule, (steps) => {
          const crowd = new Crowd({ name: 'stale-synchronous', clocks }, { examples: 120, leasesPerFetch, clocks })
          for (const [what, who] of steps) {
            act(crowd, what, who)
            expect(crowd.spread).toBeLessThanOrEqual(clocks)
          }
          crowd.finish(VOLUNTEERS)
        }),
        { numRuns: 80 },
      )
    },
  )

  it('with clocks 0 it is bulk synchronous: nobody begins a round before all have ended the one before', () => {
    fc.assert(
      fc.property(schedule, (steps) => {
        const crowd = new Crowd({ name: 'stale-synchronous', clocks: 0 }, { clocks: 0 })
        const three = VOLUNTEERS.slice(0, 3)
        for (const who of three) crowd.ask(who)
        for (const [what, who] of steps) {
          if (what !== 'ask' && what !== 'start' && what !== 'settle') continue
          const reader = what === 'start' ? crowd.start(who) : null
          if (what !== 'start' && three.includes(who)) crowd[what](who)
          if (reader === null) continue
          const round = Math.floor(crowd.version / 3)
          expect(reader.clock).toBe(round)
          expect(reader.lease.version).toBe(crowd.version)
        }
      }),
    )
  })

  it('is not held by who always has a lease and returns none', () => {
    const crowd = new Crowd({ name: 'stale-synchronous', clocks: 1 }, { clocks: 1 })
    const folds = () => crowd.version
    for (let round = 0; round < 20; round++) {
      const before = folds()
      for (const who of ['eve', 'ann', 'bob']) crowd.ask(who)
      for (const who of ['eve', 'ann', 'bob']) crowd.start(who)
      crowd.ask('eve')
      for (const who of ['ann', 'bob']) crowd.settle(who)
      crowd.lose(crowd.of('eve')[0])
      crowd.ask('eve')
      if (round > 2) expect(folds() - before).toBe(2)
    }
    // Once it returns one, it is waited for again.
    crowd.start('eve')
    crowd.settle('eve')
    for (const lease of crowd.of('eve')) crowd.lose(lease)
    crowd.ask('eve')
    const before = folds()
    for (let round = 0; round < 10; round++) {
      crowd.ask('ann')
      crowd.start('ann')
      crowd.settle('ann')
    }
    expect(folds() - before).toBeLessThanOrEqual(3)
  })

  it('lets the fastest run ahead by just as many leases as it says', () => {
    const crowd = new Crowd({ name: 'stale-synchronous', clocks: 3 }, { clocks: 3 })
    for (const who of ['ann', 'bob']) {
      crowd.ask(who)
      crowd.start(who)
    }
    let done = 0
    for (; crowd.settle('ann'); done++) {
      crowd.ask('ann')
      crowd.start('ann')
    }
    expect(done).toBe(4)
    expect(crowd.bench.strategy.next(askOf(crowd.epochs, { volunteer: 'ann' }))).toEqual({
      wait: 'stale synchronous: the next lease starts when nobody is more than 3 leases behind it',
    })
    crowd.settle('bob')
    expect(crowd.ask('ann')).toBe(true)
    expect(crowd.ask('ann')).toBe(false)
  })

  it('fetches ahead within the bound only: alone with clocks 0 there is one lease at a time', () => {
    for (const [clocks, held] of [
      [0, 1],
      [1, 2],
    ]) {
      const crowd = new Crowd({ name: 'stale-synchronous', clocks }, { clocks })
      while (crowd.ask('ann'));
      expect(crowd.of('ann')).toHaveLength(held)
    }
  })

  it('goes on from what was fetched only while that is fresh enough', () => {
    const { bench, epochs } = new Crowd({ name: 'stale-synchronous', clocks: 2 }, { leasesPerFetch: 100 })
    const { strategy } = bench
    let version = 0
    const lease = (id: string, volunteer: string) => {
      const draft = strategy.next(askOf(epochs, { volunteer }))
      if ('wait' in draft) throw new Error(`${volunteer}: ${draft.wait}`)
      return strategy.bind(id, volunteer, version, 0.1)
    }
    const settle = (id: string, volunteer: string) => {
      strategy.fold(settledOf(id, volunteer))
      version++
    }
    lease('b0', 'bob')
    // Fetched when the slowest was at clock 0: fresh enough for the clocks 0, 1 and 2.
    for (const [i, base] of [0, 0, 0].entries()) {
      expect(lease(`a${i}`, 'ann').version).toBe(base)
      settle(`a${i}`, 'ann')
    }
    settle('b0', 'bob')
    lease('b1', 'bob')
    // For clock 3 it is not; nor is what is fetched now, when the slowest is at 1, fresh enough for clock 4.
    expect(lease('a3', 'ann')).toMatchObject({ version: 4, continues: null })
    settle('a3', 'ann')
    settle('b1', 'bob')
    lease('b2', 'bob')
    expect(lease('a4', 'ann')).toMatchObject({ version: 6, continues: null })
    settle('a4', 'ann')
    settle('b2', 'bob')
    expect(lease('a5', 'ann')).toMatchObject({ version: 8, continues: null })
    settle('a5', 'ann')
    // Once bob is only one behind, what is fetched is fresh enough for the next clock too.
    for (const i of [3, 4]) {
      lease(`b${i}`, 'bob')
      settle(`b${i}`, 'bob')
    }
    expect(lease('a6', 'ann')).toMatchObject({ version: 11, continues: null })
    settle('a6', 'ann')
    expect(lease('a7', 'ann')).toMatchObject({ version: 11, continues: 'a6' })
  })

  it('begins anew after a crash: what is folded in again is nobody’s clock', () => {
    const { bench, epochs } = new Crowd({ name: 'stale-synchronous', clocks: 0 })
    for (let i = 0; i < 5; i++) bench.strategy.fold(settledOf(`l${i}`, 'ann'))
    for (const volunteer of ['bob', 'ann']) {
      expect(bench.strategy.next(askOf(epochs, { volunteer }))).toHaveProperty('stretches')
    }
  })

  it('is not held back for ever by who never asks again, where somebody says that it is idle', () => {
    const crowd = new Crowd({ name: 'stale-synchronous', clocks: 0 }, { clocks: 0 })
    for (const act of working) for (const who of ['ann', 'bob']) crowd[act](who)
    for (const act of working) crowd[act]('ann')
    expect(crowd.ask('ann')).toBe(false)
    crowd.asleep.add('bob')
    expect(crowd.ask('ann')).toBe(true)
    // It comes back at the slowest clock, which is ann's.
    expect(crowd.ask('bob')).toBe(true)
  })
})

it('[W1] stale-synchronous does not wait for who may not work yet', () => {
  const policy = { bound: { name: 'stale-synchronous', clocks: 0 } }
  const { strategy } = new DownpourBench({ initial: new Float32Array(4), strategy: { warmStart: 9, policy } })
  const epochs = new Epochs(1e6, 1)
  const works = (volunteer: string, rank: number, id: string) => {
    const draft = strategy.next(askOf(epochs, { volunteer, rank }))
    if ('wait' in draft) return draft.wait
    strategy.bind(id, volunteer, 0, 0.1)
    strategy.fold(settledOf(id, volunteer))
    return 'worked'
  }
  expect(works('ann', 0, 'a0')).toBe('worked')
  // Somebody else stands first in the queue now, and ann at a clock that all others are past soon.
  expect(works('ann', 1, 'a1')).toBe('warm start: 1 volunteer trains first')
  for (let i = 0; i < 4; i++) expect(works('bob', 0, `b${i}`)).toBe('worked')
})

describe('bounded-delay', () => {
  it.each([0, 1, 4])('[B1] delay %d: no lease is granted while one more than that before it is out', (delay) => {
    fc.assert(
      fc.property(schedule, (steps) => {
        const crowd = new Crowd({ name: 'bounded-delay', delay }, { examples: 120, leasesPerFetch: 3 })
        for (const [what, who] of steps) {
          act(crowd, what, who)
          const numbers = crowd.out.map(({ number }) => number)
          expect(Math.max(...numbers) - Math.min(...numbers)).toBeLessThanOrEqual(delay)
        }
        crowd.finish(VOLUNTEERS)
        // What must be in is in the newest version only.
        expect(crowd.continued).toBe(0)
      }),
      { numRuns: 80 },
    )
  })

  it('grants as soon as it may, whoever held it up and however that ended', () => {
    const crowd = new Crowd({ name: 'bounded-delay', delay: 2 })
    expect(VOLUNTEERS.map((who) => crowd.ask(who))).toEqual([true, true, true, false, false])
    for (const who of ['bob', 'cid']) {
      crowd.start(who)
      crowd.settle(who)
    }
    expect(crowd.ask('dot')).toBe(false)
    crowd.lose(crowd.of('ann')[0])
    expect(['dot', 'eve', 'ann'].map((who) => crowd.ask(who))).toEqual([true, true, true])
    expect(crowd.ask('bob')).toBe(false)
    // ann's examples are out again under another number: they are not taken for the ones she lost.
    crowd.leave('dot')
    expect(crowd.ask('bob')).toBe(true)
  })

  it('says why there is nothing to do', () => {
    for (const [delay, wait] of [
      [0, 'bounded delay: leases are computed one after the other'],
      [2, 'bounded delay: the next lease starts when all those more than 2 before it are in'],
    ] as const) {
      const crowd = new Crowd({ name: 'bounded-delay', delay })
      while (crowd.ask('ann') || crowd.ask('bob'));
      const out = crowd.out.map(({ stretches, who }) => ({ stretches, volunteers: [who] }))
      expect(crowd.bench.strategy.next(askOf(crowd.epochs, { out }))).toEqual({ wait })
    }
  })
})
