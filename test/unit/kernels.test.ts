/**
 * shared/kernels: every kernel against plain JavaScript. Rules are compared bit for bit with a reference that rounds
 * with Math.fround after every operation, and within rounding with a float64 oracle; codecs with the arithmetic
 * that defines them. Every count from 0 to 40 runs, with guards around the vectors that nothing may touch.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createKernels, FLUSH_EVERY, INT8_BLOCK, int8Size, type Kernels } from '../../shared/kernels/kernels.ts'

const f = Math.fround
const LEAST_NORMAL = 2 ** -126
const LARGEST = 3.4028234663852886e38
const GUARD = 123456.75

/** Every tail, whole blocks of every kind, and one more. */
const COUNTS = [...Array.from({ length: 41 }, (_, i) => i), 255, 256, 257, 271, 511, 512, 513, 1000, 4099]

/** Any float by its bits: subnormals, infinities and NaN come up often. */
const anyFloat = fc.float()
const finite = fc.float({ noNaN: true, noDefaultInfinity: true })
const ordinary = fc.float({ noNaN: true, min: f(-1e4), max: f(1e4) })
const vector = (of: fc.Arbitrary<number>, maxLength = 600) =>
  fc.array(of, { maxLength, size: 'max' }).map((values) => Float32Array.from(values))

/** Not random: a spread of magnitudes and both signs, zero among them. */
function sample(count: number, salt: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const hash = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(salt, 0x85ebca6b)
    if (hash % 17 === 0) return 0
    return ((hash >> 8) / 2 ** 23) * 2 ** (hash & 7)
  })
}

class Workbench {
  readonly kernels: Kernels = createKernels()

  /** A vector between guards; the guards are checked when it is read back. Starts off the 16-byte grid if asked. */
  place(values: Float32Array, shift = 0): { at: number; read: () => Float32Array } {
    const count = values.length
    const base = this.kernels.reserve(4 * (count + 12)) + shift
    this.kernels.floats(base, count + 8).fill(GUARD)
    const at = base + 16
    this.kernels.floats(at, count).set(values)
    return {
      at,
      read: () => {
        const all = this.kernels.floats(base, count + 8)
        for (let i = 0; i < 4; i++) {
          if (all[i] !== GUARD || all[count + 4 + i] !== GUARD)
            throw new Error(`a kernel wrote outside ${count} floats`)
        }
        return all.slice(4, 4 + count)
      },
    }
  }

  /** Bytes between guards. */
  placeBytes(values: Uint8Array): { at: number; read: () => Uint8Array } {
    const base = this.kernels.reserve(values.length + 32)
    this.kernels.bytes(base, values.length + 32).fill(0xa5)
    const at = base + 16
    this.kernels.bytes(at, values.length).set(values)
    return {
      at,
      read: () => {
        const all = this.kernels.bytes(base, values.length + 32)
        const guards = [...all.subarray(0, 16), ...all.subarray(16 + values.length)]
        if (guards.some((byte) => byte !== 0xa5)) throw new Error(`a kernel wrote outside ${values.length} bytes`)
        return all.slice(16, 16 + values.length)
      },
    }
  }
}

/** Equal bits, except that any NaN equals any NaN. */
function expectSame(actual: Float32Array, expected: Float32Array): void {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], expected[i])) {
      throw new Error(`element ${i} of ${expected.length}: expected ${expected[i]}, got ${actual[i]}`)
    }
  }
}

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

/** A rule on one element. `state` is replaced in place; returns the new w. `round` is Math.fround or nothing at all. */
type Rule = (w: number, g: number, state: number[], round: (x: number) => number) => number

interface RuleCase {
  name: string
  states: number
  run: (kernels: Kernels, w: number, g: number, states: number[], count: number, weight: number) => void
  reference: (weight: number) => Rule
}

const adamScalars = { rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
const corrections = (step: number) => ({ correction1: 1 / (1 - 0.9 ** step), correction2: 1 / (1 - 0.999 ** step) })

function adamReference(weightDecay: number, step: number): (weight: number) => Rule {
  const { rate, beta1, beta2, epsilon } = adamScalars
  const { correction1, correction2 } = corrections(step)
  const root = Math.sqrt(correction2)
  return (weight) => (w, g, state, r) => {
    const mean = r(r(r(beta1) * state[0]) + r(r((1 - beta1) * weight) * g))
    const square = r(r(r(beta2) * state[1]) + r(r((1 - beta2) * weight * weight) * r(g * g)))
    state[0] = mean
    state[1] = square
    const change = r(r(r((rate * correction1) / root) * mean) / r(r(Math.sqrt(square)) + r(epsilon / root)))
    return r(r(r(1 - rate * weightDecay) * w) - change)
  }
}

const rules: RuleCase[] = [
  {
    name: 'sgd',
    states: 0,
    run: (k, w, g, _, n, weight) => k.sgd(w, g, n, { weight, rate: 0.05 }),
    reference: (weight) => (w, g, _, r) => r(w - r(r(0.05) * r(r(weight) * g))),
  },
  {
    name: 'momentum',
    states: 1,
    run: (k, w, g, [m], n, weight) => k.momentum(w, g, m, n, { weight, rate: 0.05, momentum: 0.9 }),
    reference: (weight) => (w, g, state, r) => {
      state[0] = r(r(r(0.9) * state[0]) + r(r(weight) * g))
      return r(w - r(r(0.05) * state[0]))
    },
  },
  {
    name: 'adagrad',
    states: 1,
    run: (k, w, g, [sum], n, weight) => k.adagrad(w, g, sum, n, { weight, rate: 0.05, epsilon: 1e-8 }),
    reference: (weight) => (w, g, state, r) => {
      const gradient = r(r(weight) * g)
      state[0] = r(state[0] + r(gradient * gradient))
      return r(w - r(r(r(0.05) * gradient) / r(r(Math.sqrt(state[0])) + r(1e-8))))
    },
  },
  {
    name: 'adam',
    states: 2,
    run: (k, w, g, [m, v], n, weight) =>
      k.adam(w, g, m, v, n, { ...adamScalars, weight, weightDecay: 0, ...corrections(3) }),
    reference: adamReference(0, 3),
  },
  {
    name: 'adamw',
    states: 2,
    run: (k, w, g, [m, v], n, weight) =>
      k.adam(w, g, m, v, n, { ...adamScalars, weight, weightDecay: 0.02, ...corrections(1) }),
    reference: adamReference(0.02, 1),
  },
]

function applyReference(rule: Rule, w: Float32Array, g: Float32Array, states: Float32Array[]): void {
  for (let i = 0; i < w.length; i++) {
    const state = states.map((vector) => vector[i])
    w[i] = rule(w[i], g[i], state, f)
    states.forEach((vector, at) => {
      vector[i] = state[at]
    })
  }
}

describe.each(rules)('rule $name', ({ states, run, reference }) => {
  it('equals rounding after every operation, bit for bit: every tail, several steps', () => {
    const bench = new Workbench()
    for (const count of COUNTS) {
      const weight = 0.7
      const expected = { w: sample(count, 1), states: Array.from({ length: states }, () => new Float32Array(count)) }
      const w = bench.place(expected.w)
      const g = bench.place(new Float32Array(count))
      const held = expected.states.map((state) => bench.place(state))
      for (let step = 0; step < 4; step++) {
        const gradient = sample(count, 10 + step)
        bench.kernels.floats(g.at, count).set(gradient)
        const pointers = held.map(({ at }) => at)
        run(bench.kernels, w.at, g.at, pointers, count, weight)
        applyReference(reference(weight), expected.w, gradient, expected.states)
        expectSame(g.read(), gradient)
      }
      expectSame(w.read(), expected.w)
      held.forEach((vector, at) => {
        expectSame(vector.read(), expected.states[at])
      })
    }
  })

  it('equals it on any floats, any weight', () => {
    const bench = new Workbench()
    const element = fc.record({ w: anyFloat, g: anyFloat, a: anyFloat, b: anyFloat.map(Math.abs) })
    fc.assert(
      fc.property(
        fc.array(element, { maxLength: 24 }),
        fc.float({ min: 0, max: 2, noNaN: true }),
        (elements, weight) => {
          const count = elements.length
          const column = (name: 'w' | 'g' | 'a' | 'b') => Float32Array.from(elements, (of) => of[name])
          const start = states === 1 ? [column('b')] : [column('a'), column('b')].slice(0, states)
          const w = bench.place(column('w'))
          const held = start.map((state) => bench.place(state))
          const pointers = held.map(({ at }) => at)
          run(bench.kernels, w.at, bench.place(column('g')).at, pointers, count, weight)
          const expected = column('w')
          applyReference(reference(weight), expected, column('g'), start)
          expectSame(w.read(), expected)
          held.forEach((vector, at) => {
            expectSame(vector.read(), start[at])
          })
        },
      ),
    )
  })

  it('agrees with a float64 oracle to f32 rounding', () => {
    const bench = new Workbench()
    const count = 1003
    const weight = 0.25
    const ws = sample(count, 1)
    const w = bench.place(ws)
    const gs = sample(count, 2)
    const g = bench.place(gs)
    const held = Array.from({ length: states }, () => bench.place(new Float32Array(count)))
    const exact = Array.from(ws, (value, i) => {
      const state = Array(states).fill(0)
      let result = value
      for (let step = 0; step < 5; step++) result = reference(weight)(result, gs[i], state, (x) => x)
      return result
    })
    for (let step = 0; step < 5; step++) {
      const pointers = held.map(({ at }) => at)
      run(bench.kernels, w.at, g.at, pointers, count, weight)
    }
    const errors = w.read().map((value, i) => Math.abs(value - exact[i]) / Math.max(1, Math.abs(ws[i])))
    expect(Math.max(...errors)).toBeLessThan(1e-5)
  })

  it('gives the same bits however the vector is cut', () => {
    const count = 300
    const whole = new Workbench()
    const wholeW = whole.place(sample(count, 1))
    const wholeStates = Array.from({ length: states }, () => whole.place(new Float32Array(count)).at)
    run(whole.kernels, wholeW.at, whole.place(sample(count, 2)).at, wholeStates, count, 0.5)
    fc.assert(
      fc.property(fc.nat(count), (cut) => {
        const w = whole.place(sample(count, 1))
        const g = whole.place(sample(count, 2))
        const held = Array.from({ length: states }, () => whole.place(new Float32Array(count)).at)
        run(whole.kernels, w.at, g.at, held, cut, 0.5)
        const rest = held.map((at) => at + 4 * cut)
        run(whole.kernels, w.at + 4 * cut, g.at + 4 * cut, rest, count - cut, 0.5)
        expectSame(w.read(), wholeW.read())
      }),
      { numRuns: 30 },
    )
  })
})

it('adam is AdamW as published: ten steps with bias correction, a weight and decay, against float64', () => {
  const bench = new Workbench()
  const count = 203
  const [rate, beta1, beta2, epsilon, weightDecay, weight] = [0.01, 0.9, 0.999, 1e-8, 0.1, 0.5]
  const start = sample(count, 1)
  const w = bench.place(start)
  const [m, v] = [1, 2].map(() => bench.place(new Float32Array(count)))
  const exact = { w: Float64Array.from(start), m: new Float64Array(count), v: new Float64Array(count) }
  for (let step = 1; step <= 10; step++) {
    const gradient = sample(count, step)
    const correction1 = 1 / (1 - beta1 ** step)
    const correction2 = 1 / (1 - beta2 ** step)
    const scalars = { weight, rate, beta1, beta2, epsilon, weightDecay, correction1, correction2 }
    bench.kernels.adam(w.at, bench.place(gradient).at, m.at, v.at, count, scalars)
    for (let i = 0; i < count; i++) {
      const g = weight * gradient[i]
      exact.m[i] = beta1 * exact.m[i] + (1 - beta1) * g
      exact.v[i] = beta2 * exact.v[i] + (1 - beta2) * g * g
      const mHat = exact.m[i] / (1 - beta1 ** step)
      const vHat = exact.v[i] / (1 - beta2 ** step)
      exact.w[i] -= rate * (mHat / (Math.sqrt(vHat) + epsilon) + weightDecay * exact.w[i])
    }
  }
  const errors = w.read().map((x, i) => Math.abs(x - exact.w[i]) / Math.max(1, Math.abs(exact.w[i])))
  expect(Math.max(...errors)).toBeLessThan(1e-5)
})

describe('running means', () => {
  it('flushed every FLUSH_EVERY steps never become subnormal where the gradient has died, and end at zero', () => {
    const { kernels, place } = benchOf(21)
    const [zeros, w, m, v] = [0, 0, 1, 1].map(place)
    const scalars = { ...adamScalars, beta2: 0.95, weight: 1, weightDecay: 0, ...corrections(1) }
    const rules = [
      () => kernels.momentum(w, zeros, m, 21, { weight: 1, rate: 0.1, momentum: 0.9 }),
      () => kernels.adam(w, zeros, m, v, 21, scalars),
    ]
    for (const step of rules) {
      kernels.floats(m, 21).fill(-1e-20)
      for (let t = 1; t <= 40 * FLUSH_EVERY; t++) {
        step()
        for (const mean of [m, v]) {
          if (t % FLUSH_EVERY === 0) kernels.flush(mean, 21)
          expect(kernels.floats(mean, 21).some((x) => x !== 0 && Math.abs(x) < LEAST_NORMAL)).toBe(false)
        }
      }
      expect(kernels.floats(m, 21).every((x) => x === 0)).toBe(true)
    }
    expect(kernels.floats(v, 21).every((x) => x === 0)).toBe(true)
  })

  function benchOf(count: number): { kernels: Kernels; place: (value: number) => number } {
    const bench = new Workbench()
    return { kernels: bench.kernels, place: (value) => bench.place(new Float32Array(count).fill(value)).at }
  }
})

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
