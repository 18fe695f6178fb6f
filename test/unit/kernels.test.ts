/**
 * shared/kernels: every kernel against plain JavaScript. Rules are compared bit for bit with a reference that rounds
 * with Math.fround after every operation, and within rounding with a float64 oracle; codecs with the arithmetic
 * that defines them. Every count from 0 to 40 runs, with guards around the vectors that nothing may touch.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createKernels, type Kernels } from '../../shared/kernels/kernels.ts'
import { anyFloat, COUNTS, expectSame, f, LARGEST, sample, Workbench } from '../support/kernel-workbench.ts'

describe('memory', () => {
  it('reserves zeroed pieces on a 16-byte grid that do not overlap, and grows', () => {
    const kernels = createKernels()
    let end = 0
    for (const sizeBytes of [1, 16, 5, 0, 100_000, 7, 1 << 20]) {
      const pointer = kernels.reserve(sizeBytes)
      expect(pointer % 16).toBe(0)
      expect(pointer).toBeGreaterThanOrEqual(Math.max(16, end))
      expect(kernels.bytes(pointer, sizeBytes).every((byte) => byte === 0)).toBe(true)
      kernels.bytes(pointer, sizeBytes).fill(0xff)
      end = pointer + sizeBytes
    }
  })

  it('starts small and keeps its contents when it grows', () => {
    const kernels = createKernels()
    const pointer = kernels.reserve(40)
    const early = kernels.floats(pointer, 10)
    expect(early.buffer.byteLength).toBe(65536)
    early.fill(3)
    kernels.reserve(1 << 22)
    expect([...kernels.floats(pointer, 10)]).toEqual(Array(10).fill(3))
  })

  it('gives every instance a memory of its own', () => {
    const instances = Array.from({ length: 300 }, () => createKernels())
    instances.forEach((kernels, i) => {
      kernels.fill(kernels.reserve(40), 10, i)
    })
    const first = createKernels().reserve(40)
    expect(instances.map((kernels) => kernels.floats(first, 10)[9])).toEqual(instances.map((_, i) => i))
  })
})

describe('vectors', () => {
  const cases: {
    name: string
    run: (kernels: Kernels, y: number, x: number, count: number) => void
    one: (y: number, x: number) => number
  }[] = [
    { name: 'accumulate', run: (k, y, x, n) => k.accumulate(y, x, n, 0.3), one: (y, x) => f(y + f(f(0.3) * x)) },
    { name: 'scale', run: (k, y, _, n) => k.scale(y, n, -0.7), one: (y) => f(f(-0.7) * y) },
    { name: 'multiply', run: (k, y, x, n) => k.multiply(y, x, n), one: (y, x) => f(y * x) },
    {
      name: 'shrink',
      run: (k, y, _, n) => k.shrink(y, n, 0.3),
      one: (y) => Math.sign(y) * Math.max(0, f(Math.abs(y) - f(0.3))),
    },
    { name: 'fill', run: (k, y, _, n) => k.fill(y, n, 0.1), one: () => f(0.1) },
    { name: 'flush', run: (k, y, _, n) => k.flush(y, n), one: (y) => (Math.abs(y) < 2 ** -100 ? 0 : y) },
    { name: 'copy', run: (k, y, x, n) => k.copy(x, n, y), one: (_, x) => x },
  ]

  for (const { name, run, one } of cases) {
    it(`${name}: every tail, aligned or not, equals rounding after every operation`, () => {
      for (const shift of [0, 4, 1]) {
        const bench = new Workbench()
        for (const count of COUNTS) {
          if (shift === 1 && count > 40) continue
          const [ys, xs] = [sample(count, 1), sample(count, 2)]
          const y = shift === 1 ? placeUnaligned(bench, ys) : bench.place(ys, shift)
          const x = bench.place(xs)
          run(bench.kernels, y.at, x.at, count)
          expectSame(
            y.read(),
            ys.map((value, i) => one(value, xs[i])),
          )
          expectSame(x.read(), xs)
        }
      }
    })

    it(`${name}: any floats, also infinite and NaN`, () => {
      const bench = new Workbench()
      fc.assert(
        fc.property(fc.array(fc.tuple(anyFloat, anyFloat), { maxLength: 40 }), (pairs) => {
          const ys = Float32Array.from(pairs, ([y]) => y)
          const xs = Float32Array.from(pairs, ([, x]) => x)
          const y = bench.place(ys)
          run(bench.kernels, y.at, bench.place(xs).at, pairs.length)
          expectSame(
            y.read(),
            ys.map((value, i) => one(value, xs[i])),
          )
        }),
      )
    })
  }

  function placeUnaligned(bench: Workbench, values: Float32Array): { at: number; read: () => Float32Array } {
    const { at, read } = bench.placeBytes(new Uint8Array(4 * values.length + 1))
    const bytes = () => bench.kernels.bytes(at + 1, 4 * values.length)
    bytes().set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    return {
      at: at + 1,
      read: () => {
        read()
        return new Float32Array(bytes().slice().buffer)
      },
    }
  }

  it('sumSquares: the float64 sum, to its rounding', () => {
    const bench = new Workbench()
    for (const count of COUNTS) {
      const xs = sample(count, 3)
      const expected = xs.reduce((total, x) => total + x * x, 0)
      const actual = bench.kernels.sumSquares(bench.place(xs).at, count)
      expect(Math.abs(actual - expected)).toBeLessThanOrEqual(expected * 1e-12)
    }
  })

  it('sumSquares: does not overflow on finite floats, and is not finite when one is not, wherever it stands', () => {
    const bench = new Workbench()
    expect(bench.kernels.sumSquares(bench.place(new Float32Array(1000).fill(LARGEST)).at, 1000)).toBeCloseTo(
      1000 * LARGEST ** 2,
      -70,
    )
    const count = 43
    const x = bench.place(sample(count, 1))
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (let i = 0; i < count; i++) {
        const values = bench.kernels.floats(x.at, count)
        const kept = values[i]
        values[i] = bad
        expect(Number.isFinite(bench.kernels.sumSquares(x.at, count))).toBe(false)
        values[i] = kept
      }
    }
    expect(Number.isFinite(bench.kernels.sumSquares(x.at, count))).toBe(true)
  })
})
