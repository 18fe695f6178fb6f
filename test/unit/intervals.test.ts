/** Intervals against a naive model: a Set of whole numbers. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Interval, Intervals } from '../../coordinator/strategies/intervals.ts'

const LIMIT = 60

const numbers = (intervals: Iterable<Interval>): number[] =>
  [...intervals].flatMap(({ from, to }) => Array.from({ length: to - from }, (_, i) => from + i))

const interval = fc
  .tuple(fc.integer({ min: 0, max: LIMIT }), fc.integer({ min: 0, max: 12 }))
  .map(([from, length]) => ({ from, to: Math.min(LIMIT, from + length) }))

const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), interval }),
  fc.record({
    kind: fc.constant('take' as const),
    count: fc.integer({ min: 0, max: 20 }),
    interval: fc.option(interval),
  }),
)

/** Sorted, disjoint and not touching: the one way to write a set down. */
function canonical(list: readonly Interval[]): boolean {
  return list.every(({ from, to }, i) => from < to && (i === 0 || list[i - 1].to < from))
}

describe('Intervals', () => {
  it('[E1] holds what a set would hold, whatever is added and taken', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const intervals = new Intervals()
        const model = new Set<number>()
        for (const at of steps) {
          if (at.kind === 'add') {
            const wanted = numbers([at.interval])
            if (wanted.some((n) => model.has(n))) {
              expect(() => intervals.add(at.interval)).toThrow('invariant')
            } else {
              intervals.add(at.interval)
              for (const n of wanted) model.add(n)
            }
          } else {
            const within = at.interval ?? undefined
            const expected = [...model]
              .filter((n) => within === undefined || (n >= within.from && n < within.to))
              .sort((a, b) => a - b)
              .slice(0, at.count)
            const taken = intervals.take(at.count, within)
            expect(numbers(taken)).toEqual(expected)
            expect(canonical(taken)).toBe(true)
            for (const n of expected) model.delete(n)
          }
          expect(numbers(intervals.toJSON())).toEqual([...model].sort((a, b) => a - b))
          expect(canonical(intervals.toJSON())).toBe(true)
          expect(intervals.size).toBe(model.size)
          expect(intervals.empty).toBe(model.size === 0)
        }
        const rest = intervals.complement({ from: 0, to: LIMIT })
        expect(numbers(rest.toJSON())).toEqual(Array.from({ length: LIMIT }, (_, i) => i).filter((n) => !model.has(n)))
        expect(canonical(rest.toJSON())).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it('is unchanged by an addition that it refuses', () => {
    const intervals = new Intervals([{ from: 2, to: 5 }])
    expect(() => intervals.add({ from: 0, to: 3 })).toThrow('invariant: [0, 3) overlaps [2, 5)')
    expect(intervals.toJSON()).toEqual([{ from: 2, to: 5 }])
  })

  it('joins what touches', () => {
    const intervals = new Intervals([
      { from: 0, to: 2 },
      { from: 4, to: 6 },
    ])
    intervals.add({ from: 2, to: 4 })
    expect(intervals.toJSON()).toEqual([{ from: 0, to: 6 }])
  })
})
