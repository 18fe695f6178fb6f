/**
 * The kernels that sum: bit for bit the plain JavaScript of the same order of additions, and the float64 or exact sum.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anyFloat, COUNTS, expectSame, f, GUARD, ordinary, sample, Workbench } from '../support/kernel-workbench.ts'

/** Σ terms as the kernels add: eight sums side by side, joined, then the tail. */
function inEight(terms: readonly number[]): number {
  const wide = terms.length & ~7
  const sums = new Array<number>(8).fill(0)
  for (let i = 0; i < wide; i++) sums[i % 8] += terms[i]
  const [a, b] = [0, 1].map((lane) => sums[lane] + sums[2 + lane] + (sums[4 + lane] + sums[6 + lane]))
  return terms.slice(wide).reduce((total, term) => total + term, a + b)
}

/** What `carry` does to one element: [sum, error]. */
function carried(y: number, e: number, x: number, a: number): [number, number] {
  const term = f(f(a) * x)
  const sum = f(y + term)
  const taken = f(sum - y)
  return [sum, f(e + f(f(y - f(sum - taken)) + f(term - taken)))]
}

const pair = fc.tuple(anyFloat, anyFloat)
const column = (pairs: readonly (readonly number[])[], i: number) => Float32Array.from(pairs, (values) => values[i])

describe('dot and sumAbs', () => {
  it('have the bits of the float64 sum in their order, at every tail, aligned or not', () => {
    for (const shift of [0, 4]) {
      const bench = new Workbench()
      for (const count of COUNTS) {
        const [xs, ys] = [sample(count, 1), sample(count, 2)]
        const [x, y] = [bench.place(xs, shift), bench.place(ys)]
        expect(bench.kernels.dot(x.at, y.at, count)).toBe(inEight(Array.from(xs, (value, i) => value * ys[i])))
        expect(bench.kernels.sumAbs(x.at, count)).toBe(inEight(Array.from(xs, Math.abs)))
        expectSame(x.read(), xs)
        expectSame(y.read(), ys)
      }
    }
  })

  it('also of infinite and NaN', () => {
    const bench = new Workbench()
    fc.assert(
      fc.property(fc.array(pair, { maxLength: 40 }), (pairs) => {
        const [x, y] = [bench.place(column(pairs, 0)).at, bench.place(column(pairs, 1)).at]
        expect(bench.kernels.dot(x, y, pairs.length)).toBe(inEight(pairs.map(([a, b]) => a * b)))
        expect(bench.kernels.sumAbs(x, pairs.length)).toBe(inEight(pairs.map(([a]) => Math.abs(a))))
      }),
    )
  })

  it('a vector with itself is its sum of squares', () => {
    const bench = new Workbench()
    const x = bench.place(sample(1000, 3)).at
    expect(bench.kernels.dot(x, x, 1000)).toBe(bench.kernels.sumSquares(x, 1000))
  })
})

describe('carry', () => {
  it('equals rounding after every operation, at every tail, aligned or not', () => {
    for (const shift of [0, 4]) {
      const bench = new Workbench()
      for (const count of COUNTS) {
        const [ys, es, xs] = [sample(count, 1), sample(count, 2), sample(count, 3)]
        const [y, e, x] = [bench.place(ys, shift), bench.place(es), bench.place(xs)]
        bench.kernels.carry(y.at, e.at, x.at, count, 0.3)
        const expected = Array.from(ys, (value, i) => carried(value, es[i], xs[i], 0.3))
        expectSame(y.read(), column(expected, 0))
        expectSame(e.read(), column(expected, 1))
        expectSame(x.read(), xs)
      }
    }
  })

  it('loses nothing: sum and error together are exactly what was added', () => {
    const bench = new Workbench()
    fc.assert(
      fc.property(fc.array(fc.tuple(ordinary, ordinary), { minLength: 1, maxLength: 40 }), (pairs) => {
        const [y, e] = [bench.place(column(pairs, 0)), bench.place(new Float32Array(pairs.length))]
        bench.kernels.carry(y.at, e.at, bench.place(column(pairs, 1)).at, pairs.length, 1)
        const [sums, errors] = [y.read(), e.read()]
        // Of two floats that differ by less than 2²⁹ in size, the sum is exact in float64.
        pairs.forEach(([a, b], i) => {
          const [large, small] = [Math.max(Math.abs(a), Math.abs(b)), Math.min(Math.abs(a), Math.abs(b))]
          // Zero has a sign, which the error has not.
          if (small === 0 || large / small < 2 ** 28) expect(sums[i] + errors[i] + 0).toBe(a + b + 0)
        })
      }),
      { examples: [[[[-0, -0]]]] },
    )
  })

  it('sums a thousand terms as if they were rounded once, where plain float32 does not', () => {
    const bench = new Workbench()
    const count = 100
    const terms = Array.from({ length: 1000 }, (_, i) => sample(count, i + 1))
    const [y, e, plain] = [0, 1, 2].map(() => bench.place(new Float32Array(count)).at)
    const x = bench.place(new Float32Array(count)).at
    for (const term of terms) {
      bench.kernels.floats(x, count).set(term)
      bench.kernels.carry(y, e, x, count, 1)
      bench.kernels.accumulate(plain, x, count, 1)
    }
    bench.kernels.accumulate(y, e, count, 1)
    const expected = Float32Array.from({ length: count }, (_, i) => terms.reduce((sum, term) => sum + term[i], 0))
    expectSame(bench.kernels.floats(y, count), expected)
    expect(bench.kernels.floats(plain, count)).not.toEqual(expected)
  })
})

describe('addSquares and multiplyEach', () => {
  it('have the bits of float64, at every tail, aligned or not', () => {
    for (const shift of [0, 4]) {
      const bench = new Workbench()
      for (const count of COUNTS) {
        const xs = sample(count, 1)
        const doubles = Float64Array.from(sample(count, 2), (value, i) => value / (i + 3))
        const x = bench.place(xs, shift)
        const at = bench.kernels.reserve(8 * (count + 1))
        const beside = () => bench.kernels.doubles(at, count + 1)
        beside().set([...doubles, GUARD])
        bench.kernels.addSquares(x.at, count, at)
        expect([...beside()]).toEqual([...doubles.map((sum, i) => sum + xs[i] * xs[i]), GUARD])
        expectSame(x.read(), xs)
        beside().set(doubles)
        bench.kernels.multiplyEach(x.at, count, at)
        expectSame(
          x.read(),
          xs.map((value, i) => f(value * doubles[i])),
        )
        expect([...beside()]).toEqual([...doubles, GUARD])
      }
    }
  })
})
