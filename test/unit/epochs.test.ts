/** Epochs against a naive model: every position of every epoch has a word for where it is. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Epochs, lengthOf, type Stretch, split } from '../../coordinator/strategies/epochs.ts'

const EXAMPLES = 23
const PLANNED = 4

type Place = 'free' | 'out' | 'done'

const positions = (stretches: readonly Stretch[]): [number, number][] =>
  stretches.flatMap(({ epoch, from, to }) =>
    Array.from({ length: to - from }, (_, i): [number, number] => [epoch, from + i]),
  )

const step = fc.record({
  what: fc.constantFrom('take', 'take', 'take', 'within', 'settle', 'settle', 'part', 'lose', 'crash'),
  count: fc.integer({ min: 1, max: 30 }),
  which: fc.nat(),
  from: fc.integer({ min: 0, max: EXAMPLES }),
})

describe('Epochs', () => {
  it('[E1] a position is free, out or done, and done once, whatever is taken, settled, lost or forgotten', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        let epochs = new Epochs(EXAMPLES, PLANNED)
        const model: Place[][] = Array.from({ length: PLANNED }, () => new Array<Place>(EXAMPLES).fill('free'))
        let out: Stretch[][] = []
        const mark = (stretches: readonly Stretch[], was: Place, is: Place) => {
          for (const [epoch, position] of positions(stretches)) {
            expect(model[epoch][position]).toBe(was)
            model[epoch][position] = is
          }
        }
        for (const { what, count, which, from } of steps) {
          if (what === 'take' || what === 'within') {
            const within = { from, to: Math.min(EXAMPLES, from + 7) }
            const oldest = model.findIndex((epoch) => epoch.some((place) => place !== 'done'))
            const taken = what === 'take' ? epochs.take(count) : epochs.takeWithin(count, within)
            // The oldest open epoch that has a free position; never a third one.
            const open = what === 'take' ? [oldest, oldest + 1] : [oldest]
            const free = (epoch: number) =>
              (model[epoch] ?? []).filter(
                (place, i) => place === 'free' && (what === 'take' || (i >= within.from && i < within.to)),
              ).length
            const expected = oldest < 0 ? undefined : open.find((epoch) => free(epoch) > 0)
            expect(lengthOf(taken)).toBe(expected === undefined ? 0 : Math.min(count, free(expected)))
            for (const { epoch } of taken) expect(epoch).toBe(expected)
            mark(taken, 'free', 'out')
            if (taken.length > 0) out.push(taken)
          } else if (what === 'crash') {
            epochs = new Epochs(EXAMPLES, PLANNED, JSON.parse(JSON.stringify(epochs)))
            for (const stretches of out) mark(stretches, 'out', 'free')
            out = []
          } else if (out.length > 0) {
            const [stretches] = out.splice(which % out.length, 1)
            const { head, tail } = split(
              stretches,
              what === 'settle' ? lengthOf(stretches) : what === 'part' ? count : 0,
            )
            expect(lengthOf(head) + lengthOf(tail)).toBe(lengthOf(stretches))
            epochs.giveBack(tail)
            mark(tail, 'out', 'free')
            if (head.length > 0) {
              epochs.settle(head)
              mark(head, 'out', 'done')
            }
          }
          const complete = model.findIndex((epoch) => epoch.some((place) => place !== 'done'))
          expect(epochs.current).toBe(complete < 0 ? PLANNED : complete)
          expect(epochs.finished).toBe(complete < 0)
          const done = model.flat().filter((place) => place === 'done').length
          expect(epochs.progress).toBeCloseTo(done / EXAMPLES, 12)
          for (const open of epochs.inspect()) {
            const at = (place: Place) => model[open.epoch].flatMap((is, i) => (is === place ? [[open.epoch, i]] : []))
            expect(positions(open.free.map((part) => ({ epoch: open.epoch, ...part })))).toEqual(at('free'))
            expect(positions(open.done.map((part) => ({ epoch: open.epoch, ...part })))).toEqual(at('done'))
          }
        }
      }),
      { numRuns: 150 },
    )
  })

  it('[E1] refuses to count an example twice', () => {
    const epochs = new Epochs(10, 1)
    epochs.settle(epochs.take(4))
    expect(() => epochs.settle([{ epoch: 0, from: 3, to: 5 }])).toThrow('invariant')
  })

  it('[E3] opens a second epoch for those who would wait, never a third, and completes them in order', () => {
    const epochs = new Epochs(10, 5)
    const straggler = epochs.take(1)
    epochs.settle(epochs.take(9))
    const second = epochs.take(10)
    expect(second).toEqual([{ epoch: 1, from: 0, to: 10 }])
    epochs.settle(second)
    expect(epochs.take(1)).toEqual([])
    expect(epochs.current).toBe(0)
    epochs.settle(straggler)
    expect(epochs.current).toBe(2)
    expect(epochs.take(3)).toEqual([{ epoch: 2, from: 0, to: 3 }])
  })

  it('[J2] folds the same settlements where nothing is out', () => {
    const live = new Epochs(10, 3)
    const folded = new Epochs(10, 3)
    const [a, b, c] = [live.take(6), live.take(4), live.take(5)]
    for (const stretches of [c, b, a]) {
      live.settle(stretches)
      folded.settle(stretches)
    }
    expect(folded.toJSON()).toEqual(live.toJSON())
    expect(folded.take(10)).toEqual(live.take(10))
  })
})
