/** Portions of a pass: how they are cut, who gets which, and that their sum does not depend on who sent what when. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Parameters } from '../../coordinator/parameters/parameters.ts'
import { updateRule } from '../../coordinator/parameters/update-rule.ts'
import { Epochs, type Stretch } from '../../coordinator/strategies/epochs.ts'
import { Passes, type PassOptions, SUM } from '../../coordinator/strategies/passes.ts'
import { Portions } from '../../coordinator/strategies/portions.ts'
import type { Draft, Outstanding, Settled } from '../../coordinator/strategies/strategy.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { layout } from '../../shared/layout.ts'
import { Random } from '../../shared/random.ts'
import { askOf } from '../support/downpour-bench.ts'

const OPTIONS: PassOptions = { portionSize: 10, batchSize: 10, backups: true }

/** A pass over `examples` by hand: what is out, what comes in. */
class Table {
  readonly passes: Passes
  readonly epochs: Epochs
  readonly parameters: Parameters
  readonly out: Outstanding[] = []

  constructor(examples: number, options: Partial<PassOptions> = {}, size = 4) {
    const of = layout([{ name: 'weights', shape: [size], init: { kind: 'zeros' } }])
    const rule = updateRule({ name: 'sgd', rate: 1, weightCost: 0 })
    this.parameters = new Parameters(of, rule, new Float32Array(size))
    this.epochs = new Epochs(examples, 1e9)
    this.passes = new Passes(
      { ...OPTIONS, ...options },
      {
        ...{ examples, rule: 'sgd', codec: 'f32', seed: 1, iterations: 10, parameters: this.parameters },
        sampled: (_pass, _fraction, from, to) => to - from,
      },
    )
  }

  ask(volunteer: string): Draft {
    const draft = this.passes.next(askOf(this.epochs, { volunteer, out: this.out }))
    if ('stretches' in draft) {
      const known = this.out.find(({ stretches }) => JSON.stringify(stretches) === JSON.stringify(draft.stretches))
      if (known === undefined) this.out.push({ stretches: draft.stretches, volunteers: [volunteer] })
      else (known.volunteers as string[]).push(volunteer)
    }
    return draft
  }

  /** The first position of what the volunteer gets, with `+` for a backup; null where it waits. */
  gets(volunteer: string): number | string | null {
    const before = new Set(
      this.out.filter(({ stretches }) => stretches[0]?.epoch === 0).map(({ stretches }) => stretches[0].from),
    )
    const draft = this.ask(volunteer)
    if ('wait' in draft) return null
    const [{ from }] = draft.stretches
    return before.has(from) ? `+${from}` : from
  }

  settle(from: number, more: Partial<Settled> = {}) {
    const at = this.out.findIndex(({ stretches }) => stretches[0].from === from)
    const [{ stretches, volunteers }] = this.out.splice(at, 1)
    this.epochs.settle(stretches)
    return this.passes.fold(settled(stretches, { volunteer: volunteers[0], ...more }))
  }

  lose(from: number): void {
    const at = this.out.findIndex(({ stretches }) => stretches[0].from === from)
    this.epochs.giveBack(this.out.splice(at, 1)[0].stretches)
  }
}

function settled(stretches: readonly Stretch[], more: Partial<Settled> = {}): Settled {
  const [{ from, to }] = stretches
  return {
    ...{ lease: `l${from}`, volunteer: 'ann', version: 0, staleness: 0, minibatches: 1, stretches: [...stretches] },
    ...{ examples: to - from, lossSum: 1, payload: encodeVector(codecs.f32, new Float32Array(4)), ...more },
  }
}

describe('the cut of a pass', () => {
  it('is every position once, in order, none longer than a portion', () => {
    const positive = fc.integer({ min: 1, max: 60 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), positive, positive, (examples, size, block) => {
        const portions = new Portions(examples, size, block)
        let end = 0
        for (let portion = 0; portion < portions.count; portion++) {
          const bounds = portions.bounds(portion)
          expect(bounds.from).toBe(end)
          expect(bounds.to).toBeGreaterThan(bounds.from)
          expect(bounds.to - bounds.from).toBeLessThanOrEqual(Math.max(size, block))
          // Blocks of one length: whole ones, or the short last one alone.
          if (bounds.to - bounds.from > block) expect((bounds.to - bounds.from) % block).toBe(0)
          expect(portions.portionOf(bounds)).toBe(portion)
          end = bounds.to
        }
        expect(end).toBe(examples)
      }),
    )
  })

  it('goes out as stored, whole, as the sum of the examples', () => {
    expect(new Table(25).ask('ann')).toEqual({
      stretches: [{ epoch: 0, from: 0, to: 10 }],
      ...{ batchSize: 10, timeBoxed: false, from: 'train', fraction: 1, reduce: 'sum', compensated: true, sure: false },
    })
    // Of which nobody is given a copy.
    expect(new Table(25, { backups: false }).ask('ann')).toMatchObject({ sure: true })
    expect(new Table(25, { fraction: 0.5 }).ask('ann')).toMatchObject({ fraction: 0.5 })
    expect(new Table(25, { blocks: true }).ask('ann')).toMatchObject({ reduce: 'mean' })
  })
})

describe('free positions', () => {
  const positions = ({ from, to }: { from: number; to: number }) =>
    Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i)

  it('are all there or not, whatever is taken', () => {
    const bound = fc.integer({ min: 0, max: 40 })
    fc.assert(
      fc.property(fc.array(fc.tuple(bound, bound), { maxLength: 8 }), bound, bound, (taken, from, to) => {
        const epochs = new Epochs(40, 1)
        const free = new Set(positions({ from: 0, to: 40 }))
        for (const [start, count] of taken) {
          for (const part of epochs.takeWithin(count, { from: start, to: 40 })) {
            for (const i of positions(part)) free.delete(i)
          }
        }
        expect(epochs.isFree({ from, to })).toBe(positions({ from, to }).every((i) => free.has(i)))
        expect(epochs.freeInCurrent.flatMap(positions)).toEqual([...free])
      }),
    )
  })
})

describe('who gets which portion', () => {
  /** A pass in which these did these portions of 10. */
  function doneBy(doers: string): Table {
    const table = new Table(10 * doers.length)
    for (const who of doers) table.gets(who)
    for (let from = 0; from < 10 * doers.length; from += 10) table.settle(from)
    return table
  }

  it('in the next pass everybody gets its own again', () => {
    const table = doneBy('abab')
    expect(['b', 'a', 'b', 'a'].map((who) => table.gets(who))).toEqual([10, 0, 30, 20])
  })

  it('a newcomer gets what nobody has done, then the last ones of whoever has the most left', () => {
    const table = doneBy('abbxb')
    table.passes.left('x')
    expect(['n', 'n', 'n', 'n', 'n'].map((who) => table.gets(who))).toEqual([30, 40, 20, 0, 10])
  })

  it('who is done with its own takes from others, and keeps it in the pass after', () => {
    const table = doneBy('abbb')
    expect(['a', 'a', 'b', 'b'].map((who) => table.gets(who))).toEqual([0, 30, 10, 20])
    for (const from of [0, 30, 10, 20]) table.settle(from)
    expect(['b', 'b', 'a', 'a'].map((who) => table.gets(who))).toEqual([10, 20, 0, 30])
  })

  it('one that was lost goes out again, to whoever asks', () => {
    const table = doneBy('aab')
    expect(['a', 'a', 'b'].map((who) => table.gets(who))).toEqual([0, 10, 20])
    table.lose(10)
    expect(table.gets('c')).toBe(10)
  })

  it('gives nothing of the next pass before this one is in', () => {
    const table = new Table(20, { backups: false })
    expect(['a', 'b', 'c'].map((who) => table.gets(who))).toEqual([0, 10, null])
    table.settle(10)
    expect(table.gets('c')).toBeNull()
    expect(table.settle(0)).toEqual({ count: 20, loss: 2 })
    expect(table.ask('c')).toMatchObject({ stretches: [{ epoch: 1, from: 0, to: 10 }] })
  })

  it('at the tail gives backups: of those with the fewest holders the oldest, thrice at most, never its own', () => {
    const table = new Table(20)
    expect(['a', 'b'].map((who) => table.gets(who))).toEqual([0, 10])
    expect(['c', 'd', 'c', 'a', 'b', 'e'].map((who) => table.gets(who))).toEqual(['+0', '+10', '+10', null, '+0', null])
  })

  it('a lease of another pass or none is no portion to back up', () => {
    const table = new Table(10)
    table.out.push({ stretches: [{ epoch: 7, from: 0, to: 10 }], volunteers: ['z'] })
    table.out.push({ stretches: [], volunteers: ['z'] })
    expect([table.gets('a'), table.gets('b'), table.gets('a')]).toEqual([0, '+0', null])
  })

  it('what is far behind the first that is missing stays here while so much would be held', () => {
    const table = new Table(400, {}, 9_000_000)
    const got = Array.from({ length: 18 }, () => table.gets('a'))
    expect(got).toEqual([...Array.from({ length: 16 }, (_, i) => 10 * i), null, null])
    expect(table.gets('b')).toBe('+0')
  })
})

describe('the sum of a pass', () => {
  const SIZE = 50
  const random = new Random(3)
  /** Ten portions' gradients, of very different sizes. */
  const gradients = Array.from({ length: 10 }, (_, portion) =>
    Float32Array.from({ length: SIZE }, (_, i) => random.normal(SIZE * portion + i) * 10 ** (portion % 4)),
  )
  const exact = Float32Array.from({ length: SIZE }, (_, i) => gradients.reduce((sum, g) => sum + g[i], 0))

  function summed(order: readonly number[]) {
    const table = new Table(95, {}, SIZE)
    for (let i = 0; i < 10; i++) table.gets('a')
    const sums = order.map((portion) => {
      expect(table.passes.quiescent).toBe(portion === order[0])
      const payload = encodeVector(codecs.f32, gradients[portion])
      return table.settle(10 * portion, { payload, lossSum: 0.1 * portion })
    })
    expect(table.passes.quiescent).toBe(true)
    expect(sums.slice(0, -1)).toEqual(Array(9).fill(null))
    return { sum: sums.at(-1), gradient: table.parameters.vectors.read(SUM) }
  }

  it('is exact but for one rounding, in whatever order the portions come', () => {
    const inOrder = summed(gradients.map((_, i) => i))
    expect(inOrder.gradient).toEqual(exact)
    expect(inOrder.sum).toMatchObject({ count: 95, loss: expect.closeTo(4.5, 12) })
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 10 }), (order) => {
        expect(summed(order)).toEqual(inOrder)
      }),
      { numRuns: 30 },
    )
  })

  it('of blocks is the sum of their means, and the short one counts as one', () => {
    // Two blocks of 10 in a portion, then one, then 5 rows.
    const table = new Table(35, { blocks: true, portionSize: 25 })
    expect([0, 1, 2].map(() => table.gets('a'))).toEqual([0, 20, 30])
    for (const from of [30, 0]) expect(table.settle(from, { lossSum: from === 0 ? 40 : 15 })).toBeNull()
    expect(table.settle(20, { lossSum: 30 })).toEqual({ count: 4, loss: 40 / 10 + 30 / 10 + 15 / 5 })
  })

  it('is infinite where one loss is, whatever else came', () => {
    const table = new Table(30)
    for (let i = 0; i < 3; i++) table.gets('a')
    table.settle(0)
    const payload = new Uint8Array()
    table.settle(20, { lossSum: Number.NaN, payload })
    expect(table.settle(10)).toEqual({ count: 30, loss: Number.POSITIVE_INFINITY })
    // And the next pass knows nothing of it.
    for (let i = 0; i < 3; i++) table.gets('a')
    for (const from of [0, 10, 20]) table.settle(from)
    expect([...table.parameters.vectors.read(SUM)]).toEqual([0, 0, 0, 0])
  })

  it('[E1] counts no portion twice, and nothing that is none', () => {
    const table = new Table(30)
    const stretch = (from: number, to: number, epoch = 0) => settled([{ epoch, from, to }])
    table.passes.fold(stretch(0, 10))
    table.passes.fold(stretch(20, 30))
    for (const wrong of [stretch(0, 10), stretch(20, 30), stretch(10, 20, 1), stretch(10, 15), stretch(11, 20)]) {
      expect(() => table.passes.fold(wrong)).toThrow(/^invariant: /)
    }
    const two = settled([
      { epoch: 0, from: 10, to: 15 },
      { epoch: 0, from: 15, to: 20 },
    ])
    expect(() => table.passes.fold(two)).toThrow(/^invariant: /)
    expect(table.passes.fold(stretch(10, 20))).toEqual({ count: 30, loss: 3 })
  })
})
