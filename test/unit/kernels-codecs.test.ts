/** The codecs' kernels against oracles written from their definitions. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { INT8_BLOCK, int8Size } from '../../shared/kernels/kernels.ts'
import {
  anyFloat,
  COUNTS,
  expectSame,
  f,
  finite,
  LARGEST,
  LEAST_NORMAL,
  ordinary,
  sample,
  vector,
  Workbench,
} from '../support/kernel-workbench.ts'

/** IEEE 754 binary16 from its definition, in float64. */
function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 31
  const mantissa = half & 1023
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25))
}

const positiveHalves = Array.from({ length: 0x7c00 }, (_, half) => halfToNumber(half))

/** The nearest half by search among all of them; ties to the even one. Past the last, the next would be 65536. */
function nearestHalf(x: number): number {
  if (Number.isNaN(x)) return Number.NaN
  const magnitude = Math.abs(x)
  let low = 0
  let high = 0x7c00
  const valueAt = (half: number) => (half === 0x7c00 ? 65536 : positiveHalves[half])
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (valueAt(middle) <= magnitude) low = middle
    else high = middle
  }
  const below = magnitude - valueAt(low)
  const above = valueAt(high) - magnitude
  const chosen = below < above || (below === above && low % 2 === 0) ? low : high
  const value = chosen === 0x7c00 ? Number.POSITIVE_INFINITY : valueAt(chosen)
  return Object.is(x, -0) || x < 0 ? -value : value
}

function encodeF16(bench: Workbench, xs: Float32Array): Uint16Array {
  const target = bench.placeBytes(new Uint8Array(2 * xs.length))
  bench.kernels.encodeF16(bench.place(xs).at, xs.length, target.at)
  return new Uint16Array(target.read().buffer)
}

function decodeF16(bench: Workbench, halves: Uint16Array): Float32Array {
  const target = bench.place(new Float32Array(halves.length))
  bench.kernels.decodeF16(bench.placeBytes(new Uint8Array(halves.slice().buffer)).at, halves.length, target.at)
  return target.read()
}

describe('f16', () => {
  const all = Uint16Array.from({ length: 65536 }, (_, half) => half)

  it('decodes all 65,536 halves exactly', () => {
    expectSame(decodeF16(new Workbench(), all), Float32Array.from(all, halfToNumber))
  })

  it('encodes what it decoded to the same bits', () => {
    const bench = new Workbench()
    const again = encodeF16(bench, decodeF16(bench, all))
    const isNaNHalf = (half: number) => (half & 0x7fff) > 0x7c00
    const changed = all.filter((half) => (isNaNHalf(half) ? !isNaNHalf(again[half]) : again[half] !== half))
    expect([...changed]).toEqual([])
  })

  it('rounds to the nearest half, ties to even: around every half and every midpoint', () => {
    const bench = new Workbench()
    const next = new Float32Array(1)
    const bits = new Uint32Array(next.buffer)
    const xs: number[] = []
    for (let half = 0; half < 0x7c00; half++) {
      const to = half + 1 === 0x7c00 ? 65536 : positiveHalves[half + 1]
      for (const x of [positiveHalves[half], (positiveHalves[half] + to) / 2]) {
        next[0] = x
        xs.push(x)
        bits[0] += 1
        xs.push(-next[0])
        if (x === 0) continue
        bits[0] -= 2
        xs.push(next[0])
      }
    }
    const source = Float32Array.from(xs)
    const decoded = decodeF16(bench, encodeF16(bench, source))
    expectSame(decoded, source.map(nearestHalf))
  })

  it('rounds any float so, and overflow is infinite, from 65520 on', () => {
    const bench = new Workbench()
    fc.assert(
      fc.property(vector(anyFloat, 40), (xs) => {
        expectSame(decodeF16(bench, encodeF16(bench, xs)), xs.map(nearestHalf))
      }),
    )
    const edge = Float32Array.of(65504, 65519.996, 65520, -65520, 1e9, LARGEST, Number.POSITIVE_INFINITY, Number.NaN)
    const infinity = Number.POSITIVE_INFINITY
    const expected = [65504, 65504, infinity, -infinity, infinity, infinity, infinity, Number.NaN]
    expect([...decodeF16(bench, encodeF16(bench, edge))]).toEqual(expected)
  })

  it('handles every tail, and its sum of squares is that of the decoded floats', () => {
    const bench = new Workbench()
    for (const count of COUNTS) {
      const halves = encodeF16(bench, sample(count, 5))
      const decoded = decodeF16(bench, halves)
      expectSame(decoded, Float32Array.from(halves, halfToNumber))
      const exact = decoded.reduce((total, x) => total + x * x, 0)
      const encoded = bench.placeBytes(new Uint8Array(halves.buffer))
      expect(Math.abs(bench.kernels.sumSquaresF16(encoded.at, count) - exact)).toBeLessThanOrEqual(1e-12 * exact)
    }
  })

  it('has a sum of squares that is finite exactly when every half is', () => {
    const bench = new Workbench()
    const half = fc.oneof({ weight: 30, arbitrary: fc.nat(0x7bff) }, { weight: 1, arbitrary: fc.nat(0xffff) })
    fc.assert(
      fc.property(fc.array(half, { maxLength: 40 }), (halves) => {
        const encoded = bench.placeBytes(new Uint8Array(Uint16Array.from(halves).buffer))
        const finiteSum = Number.isFinite(bench.kernels.sumSquaresF16(encoded.at, halves.length))
        expect(finiteSum).toBe(halves.every((bits) => Number.isFinite(halfToNumber(bits))))
      }),
    )
  })
})

/** What the docstring says, in float64 rounded where it says f32. */
function int8Oracle(xs: Float32Array): { scales: number[]; q: number[] } {
  const scales: number[] = []
  const q: number[] = []
  for (let from = 0; from < xs.length; from += INT8_BLOCK) {
    const block = [...xs.subarray(from, from + INT8_BLOCK)]
    const largest = Math.max(...block.map(Math.abs))
    const largestScale = 132104.046875 * 2 ** 104
    const scale = largest === 0 ? 0 : Math.min(Math.max(f(largest / 127), LEAST_NORMAL), largestScale)
    scales.push(scale)
    q.push(...block.map((x) => (scale === 0 ? 0 : nearestEven(f(x / scale)))))
  }
  return { scales, q }
}

function nearestEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return Math.round(x) + 0
  return floor % 2 === 0 ? floor : floor + 1
}

function encodeInt8(bench: Workbench, xs: Float32Array): Uint8Array {
  const target = bench.placeBytes(new Uint8Array(int8Size(xs.length)))
  bench.kernels.encodeInt8(bench.place(xs).at, xs.length, target.at)
  return target.read()
}

function decodeInt8(bench: Workbench, encoded: Uint8Array, count: number): Float32Array {
  const target = bench.place(new Float32Array(count))
  bench.kernels.decodeInt8(bench.placeBytes(encoded).at, count, target.at)
  return target.read()
}

function int8Parts(encoded: Uint8Array, count: number): { scales: Float32Array; q: Int8Array } {
  const scalesSize = 4 * Math.ceil(count / INT8_BLOCK)
  return {
    scales: new Float32Array(encoded.slice(0, scalesSize).buffer),
    q: new Int8Array(encoded.slice(scalesSize).buffer),
  }
}

describe('int8', () => {
  it('is the scales, then the bytes, as defined: every tail', () => {
    const bench = new Workbench()
    for (const count of COUNTS) {
      const xs = sample(count, 4)
      const encoded = encodeInt8(bench, xs)
      const { scales, q } = int8Parts(encoded, count)
      const expected = int8Oracle(xs)
      expect([...scales]).toEqual(expected.scales)
      expect([...q]).toEqual(expected.q.map((value) => value + 0))
      expectSame(
        decodeInt8(bench, encoded, count),
        Float32Array.from(q, (value, i) => value * scales[Math.floor(i / INT8_BLOCK)]),
      )
    }
  })

  it('is within s·(1/2 + 2⁻¹⁶) of every finite float, of any magnitude', () => {
    const bench = new Workbench()
    const tiny = fc.float({ noNaN: true, min: f(-1e-36), max: f(1e-36) })
    const huge = fc.float({ noNaN: true, noDefaultInfinity: true, min: f(1e38) })
    const kind = fc.oneof(vector(finite), vector(ordinary), vector(tiny), vector(huge))
    fc.assert(
      fc.property(kind, (xs) => {
        const encoded = encodeInt8(bench, xs)
        const { scales, q } = int8Parts(encoded, xs.length)
        const decoded = decodeInt8(bench, encoded, xs.length)
        expect(q.every((value) => value >= -127)).toBe(true)
        for (let i = 0; i < xs.length; i++) {
          const scale = scales[Math.floor(i / INT8_BLOCK)]
          if (!(Math.abs(xs[i] - decoded[i]) <= scale * (0.5 + 2 ** -16))) {
            throw new Error(`${xs[i]} became ${decoded[i]}, scale ${scale}`)
          }
        }
        expect(Number.isFinite(bench.kernels.sumSquaresInt8(bench.placeBytes(encoded).at, xs.length))).toBe(true)
      }),
    )
  })

  it('keeps the largest magnitude of a block, the extremes of f32 and a block of zeros', () => {
    const bench = new Workbench()
    for (const x of [LARGEST, -LARGEST, 1, 3e-45, 1e-40, LEAST_NORMAL]) {
      const [decoded] = decodeInt8(bench, encodeInt8(bench, Float32Array.of(x)), 1)
      expect(Math.abs(decoded - x)).toBeLessThanOrEqual(Math.max(1e-6 * Math.abs(x), LEAST_NORMAL / 2))
    }
    const zeros = encodeInt8(bench, new Float32Array(300))
    expect([...zeros]).toEqual(Array(int8Size(300)).fill(0))
    expectSame(decodeInt8(bench, zeros, 300), new Float32Array(300))
  })

  it('keeps what is not finite detectable, wherever it stands', () => {
    const bench = new Workbench()
    const count = 300
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const at of [0, 5, 255, 256, 287, 288, 299]) {
        const xs = sample(count, 6)
        xs[at] = bad
        const encoded = encodeInt8(bench, xs)
        const decoded = decodeInt8(bench, encoded, count)
        const start = at < INT8_BLOCK ? 0 : INT8_BLOCK
        expect(decoded.every((x, i) => Number.isNaN(x) === (i >= start && i < start + INT8_BLOCK))).toBe(true)
        expect(Number.isFinite(bench.kernels.sumSquaresInt8(bench.placeBytes(encoded).at, count))).toBe(false)
      }
    }
  })

  it('checks any bytes: the sum of squares is finite exactly when every decoded float is, and equals theirs', () => {
    const bench = new Workbench()
    const scale = fc.oneof(
      { weight: 3, arbitrary: anyFloat },
      {
        weight: 1,
        arbitrary: fc.constantFrom(LARGEST, LARGEST / 2, LARGEST / 127, LARGEST / 128, -LARGEST / 128, 2 ** 120),
      },
      { weight: 5, arbitrary: ordinary },
    )
    const q = fc.oneof(fc.integer({ min: -128, max: 127 }), fc.constantFrom(0, 1, 2, -127, 127, -128))
    fc.assert(
      fc.property(
        fc.array(scale, { minLength: 2, maxLength: 2 }),
        fc.array(q, { minLength: 257, maxLength: 300 }),
        (s, qs) => {
          const count = qs.length
          const encoded = new Uint8Array(int8Size(count))
          encoded.set(new Uint8Array(Float32Array.from(s).buffer))
          encoded.set(Int8Array.from(qs), 8)
          const decoded = decodeInt8(bench, encoded, count)
          const actual = bench.kernels.sumSquaresInt8(bench.placeBytes(encoded).at, count)
          const exact = decoded.reduce((total, x) => total + x * x, 0)
          expect(Number.isFinite(actual)).toBe(decoded.every(Number.isFinite))
          if (Number.isFinite(exact)) expect(Math.abs(actual - exact)).toBeLessThanOrEqual(exact * 2 ** -22 + 1e-88)
        },
      ),
      { numRuns: 300 },
    )
  })
})
