/** Stale-synchronous: what a lease may read, who may be how far ahead, and who is waited for. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Epochs } from '../../coordinator/strategies/epochs.ts'
import { act, BoundCrowd, schedule, VOLUNTEERS, working } from '../support/bound-crowd.ts'
import { askOf, DownpourBench, settledOf } from '../support/downpour-bench.ts'

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
          const crowd = new BoundCrowd({ name: 'stale-synchronous', clocks }, { examples: 120, leasesPerFetch, clocks })
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
        const crowd = new BoundCrowd({ name: 'stale-synchronous', clocks: 0 }, { clocks: 0 })
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
    const crowd = new BoundCrowd({ name: 'stale-synchronous', clocks: 1 }, { clocks: 1 })
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
    const crowd = new BoundCrowd({ name: 'stale-synchronous', clocks: 3 }, { clocks: 3 })
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
      const crowd = new BoundCrowd({ name: 'stale-synchronous', clocks }, { clocks })
      while (crowd.ask('ann'));
      expect(crowd.of('ann')).toHaveLength(held)
    }
  })

  it('goes on from what was fetched only while that is fresh enough', () => {
    const { bench, epochs } = new BoundCrowd({ name: 'stale-synchronous', clocks: 2 }, { leasesPerFetch: 100 })
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
    const { bench, epochs } = new BoundCrowd({ name: 'stale-synchronous', clocks: 0 })
    for (let i = 0; i < 5; i++) bench.strategy.fold(settledOf(`l${i}`, 'ann'))
    for (const volunteer of ['bob', 'ann']) {
      expect(bench.strategy.next(askOf(epochs, { volunteer }))).toHaveProperty('stretches')
    }
  })

  it('is not held back for ever by who never asks again, where somebody says that it is idle', () => {
    const crowd = new BoundCrowd({ name: 'stale-synchronous', clocks: 0 }, { clocks: 0 })
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
