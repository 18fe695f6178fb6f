/** Bounded delay: no lease begins too far past the oldest that is out, and every other one may. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { act, BoundCrowd, schedule, VOLUNTEERS } from '../support/bound-crowd.ts'
import { askOf } from '../support/downpour-bench.ts'

describe('bounded-delay', () => {
  it.each([0, 1, 4])('[B1] delay %d: no lease begins while one begun more than that before it is out', (delay) => {
    fc.assert(
      fc.property(schedule, (steps) => {
        const crowd = new BoundCrowd({ name: 'bounded-delay', delay }, { examples: 120, leasesPerFetch: 3 })
        for (const [i, [what, who]] of steps.entries()) {
          // Now and then somebody begins its next lease without bringing the last one back.
          if (what === 'start' && i % 5 === 0) crowd.startAnother(who)
          act(crowd, what, who)
          const numbers = crowd.out.flatMap(({ number }) => number ?? [])
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
    crowd.start('ann')
    for (const who of ['bob', 'cid']) {
      crowd.start(who)
      crowd.settle(who)
    }
    expect(crowd.ask('dot')).toBe(false)
    crowd.lose(crowd.of('ann')[0])
    expect(['dot', 'eve', 'ann'].map((who) => crowd.ask(who))).toEqual([true, true, true])
    expect(crowd.ask('bob')).toBe(false)
    crowd.leave('dot')
    expect(crowd.ask('bob')).toBe(true)
  })

  it('lets as many begin beside a slow volunteer as the delay says, each with its next lease at hand', () => {
    const crowd = new BoundCrowd({ name: 'bounded-delay', delay: 8 })
    const all = ['ann', 'bob', 'cid']
    for (const who of all) crowd.ask(who)
    crowd.start('ann')
    crowd.ask('ann')
    let begun = 0
    for (let round = 0; round < 10; round++) {
      for (const who of ['bob', 'cid']) {
        if (crowd.start(who) !== null) begun++
        crowd.ask(who)
        crowd.settle(who)
      }
    }
    expect(begun).toBe(8)
    crowd.settle('ann')
    expect(all.map((who) => crowd.ask(who) || crowd.of(who).length > 0)).toEqual([true, true, true])
  })

  it('waits no longer for a lease whose volunteer has come back and begun another one', () => {
    const crowd = new BoundCrowd({ name: 'bounded-delay', delay: 1 })
    crowd.ask('ann')
    crowd.start('ann')
    crowd.leave('ann')
    crowd.ask('bob')
    crowd.start('bob')
    crowd.settle('bob')
    expect(crowd.ask('ann')).toBe(true)
    crowd.begin(crowd.of('ann')[1])
    expect(crowd.ask('cid')).toBe(true)
    crowd.lose(crowd.of('ann')[0])
    expect(crowd.ask('dot')).toBe(false)
  })

  it.each([1, 2, 3, 8])(
    'delay %d: who comes late to those who work gets its turn, and all the others theirs',
    (delay) => {
      const crowd = new BoundCrowd({ name: 'bounded-delay', delay }, { examples: 10_000 })
      const early = VOLUNTEERS.slice(0, 4)
      const round = (who: string) => {
        crowd.settle(who)
        crowd.start(who)
        crowd.ask(who)
      }
      for (let i = 0; i < 10; i++) early.forEach(round)
      const done = new Map(VOLUNTEERS.map((who) => [who, 0]))
      // As the gateway has it: an answer to an update comes first, then whoever waits, in the order in which they came.
      const parked = new Set<string>()
      const asks = (who: string) => {
        if (crowd.ask(who)) parked.delete(who)
        else if (crowd.of(who).length < 2) parked.add(who)
      }
      for (let i = 0; i < 100; i++) {
        for (const who of VOLUNTEERS) {
          if (crowd.settle(who)) done.set(who, done.get(who)! + 1)
          crowd.start(who)
          asks(who)
          for (const other of [...parked]) asks(other)
        }
      }
      for (const updates of done.values()) expect(updates).toBeGreaterThan(10)
    },
  )

  it('says why there is nothing to do', () => {
    for (const [delay, wait] of [
      [0, 'bounded delay: leases are computed one after the other'],
      [2, 'bounded delay: the next lease starts when all those more than 2 before it are in'],
    ] as const) {
      const crowd = new BoundCrowd({ name: 'bounded-delay', delay })
      for (const who of VOLUNTEERS) crowd.ask(who)
      expect(crowd.bench.strategy.next(askOf(crowd.epochs))).toEqual({ wait })
    }
  })
})
