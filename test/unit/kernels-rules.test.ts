/** The update rules' kernels against plain JavaScript in float32, bit for bit, and against the textbook in float64. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FLUSH_EVERY, type Kernels } from '../../shared/kernels/kernels.ts'
import { anyFloat, COUNTS, expectSame, f, LEAST_NORMAL, sample, Workbench } from '../support/kernel-workbench.ts'

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

  it('[V3] gives the same bits however the vector is cut', () => {
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
