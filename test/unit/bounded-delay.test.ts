/** Bounded delay: no lease is granted too far past the oldest that is out, and every other one is. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { act, BoundCrowd, schedule, VOLUNTEERS } from '../support/bound-crowd.ts'
import { askOf } from '../support/downpour-bench.ts'

describe('bounded-delay', () => {
  it.each([0, 1, 4])('[B1] delay %d: no lease is granted while one more than that before it is out', (delay) => {
    fc.assert(
      fc.property(schedule, (steps) => {
        const crowd = new BoundCrowd({ name: 'bounded-delay', delay }, { examples: 120, leasesPerFetch: 3 })
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
    const crowd = new BoundCrowd({ name: 'bounded-delay', delay: 2 })
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
      const crowd = new BoundCrowd({ name: 'bounded-delay', delay })
      while (crowd.ask('ann') || crowd.ask('bob'));
      const out = crowd.out.map(({ stretches, who }) => ({ stretches, volunteers: [who] }))
      expect(crowd.bench.strategy.next(askOf(crowd.epochs, { out }))).toEqual({ wait })
    }
  })
})
