/** Delay compensation: its kernels bit for bit, what it is good for on a quadratic, and the versions that it keeps. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FLUSH_EVERY, type Kernels } from '../../shared/kernels/kernels.ts'
import { DownpourBench, noise } from '../support/downpour-bench.ts'
import { COUNTS, expectSame, f, LEAST_NORMAL, ordinary, sample, Workbench } from '../support/kernel-workbench.ts'

interface Case {
  readonly name: string
  readonly run: (kernels: Kernels, g: number, w: number, base: number, ms: number, count: number) => void
  /** The new gradient and mean square of one element; `r` rounds. */
  readonly one: (g: number, w: number, base: number, ms: number, r: (x: number) => number) => [number, number]
}

const [lambda, minibatches, decay, epsilon] = [0.7, 3, 0.95, 1e-7]
const cases: Case[] = [
  {
    name: 'compensate',
    run: (kernels, g, w, base, _, count) => kernels.compensate(g, w, base, count, { lambda, minibatches }),
    one: (g, w, base, ms, r) => [r(g * r(1 + r(r(lambda / minibatches) * r(g * r(w - base))))), ms],
  },
  {
    name: 'compensateAdaptive',
    run: (kernels, g, w, base, ms, count) =>
      kernels.compensateAdaptive(g, w, base, ms, count, { lambda, minibatches, decay, epsilon }),
    one: (g, w, base, ms, r) => {
      const mean = r(r(r(decay) * ms) + r(r((1 - decay) / minibatches ** 2) * r(g * g)))
      const strength = r(r(lambda / minibatches) / r(Math.sqrt(r(mean + r(epsilon)))))
      return [r(g * r(1 + r(strength * r(g * r(w - base))))), mean]
    },
  },
]

describe.each(cases)('kernel $name', ({ run, one }) => {
  function check(gs: Float32Array, ws: Float32Array, bases: Float32Array, squares: Float32Array, bench: Workbench) {
    const [g, w, base, ms] = [gs, ws, bases, squares].map((values) => bench.place(values))
    run(bench.kernels, g.at, w.at, base.at, ms.at, gs.length)
    const expected = Array.from(gs, (value, i) => one(value, ws[i], bases[i], squares[i], f))
    expectSame(
      g.read(),
      Float32Array.from(expected, ([gradient]) => gradient),
    )
    expectSame(
      ms.read(),
      Float32Array.from(expected, ([, mean]) => mean),
    )
    expectSame(w.read(), ws)
    expectSame(base.read(), bases)
  }

  it('equals rounding after every operation, bit for bit: every tail', () => {
    const bench = new Workbench()
    for (const count of COUNTS) {
      const [gs, ws, bases] = [1, 2, 3].map((salt) => sample(count, salt))
      check(gs, ws, bases, sample(count, 4).map(Math.abs), bench)
    }
  })

  it('equals it on any ordinary floats', () => {
    const bench = new Workbench()
    fc.assert(
      fc.property(fc.array(fc.tuple(ordinary, ordinary, ordinary, ordinary), { maxLength: 24 }), (rows) => {
        const column = (i: number) => Float32Array.from(rows, (row) => row[i])
        check(column(0), column(1), column(2), column(3).map(Math.abs), bench)
      }),
    )
  })

  it('agrees with a float64 oracle to f32 rounding', () => {
    const bench = new Workbench()
    const [gs, ws, bases] = [1, 2, 3].map((salt) => noise(1003, 1, salt))
    const squares = noise(1003, 1, 4).map(Math.abs)
    const [g, w, base, ms] = [gs, ws, bases, squares].map((values) => bench.place(values))
    run(bench.kernels, g.at, w.at, base.at, ms.at, 1003)
    const errors = g.read().map((value, i) => {
      const [exact] = one(gs[i], ws[i], bases[i], squares[i], (x) => x)
      return Math.abs(value - exact) / Math.max(1, Math.abs(exact))
    })
    expect(Math.max(...errors)).toBeLessThan(1e-5)
  })

  it('keeps the bits of a gradient where the parameters have not moved, however large it is', () => {
    const bench = new Workbench()
    const gs = Float32Array.of(-0, 0, 1e-40, -3e38, 1e20, 0.1, 7)
    const [g, w, ms] = [gs, sample(7, 1), new Float32Array(7)].map((values) => bench.place(values))
    run(bench.kernels, g.at, w.at, w.at, ms.at, 7)
    expectSame(g.read(), gs)
  })
})

it('with λ·g⊙g = H it is the exact gradient at the newest parameters of a quadratic with diagonal H', () => {
  const size = 50
  const rate = 0.1
  const curvature = noise(size, 1, 1).map((x) => 0.2 + Math.abs(x))
  const target = noise(size, 1, 2)
  const gradientAt = (weights: ArrayLike<number>) => curvature.map((h, i) => h * (weights[i] - target[i]))
  for (const minibatches of [1, 4]) {
    // g = H·(base − target) and λ·g⊙g = H: base = target ± 1/√(λ·H).
    const lambda = 1.7
    const base = target.map((x, i) => x + (i % 2 === 0 ? 1 : -1) / Math.sqrt(lambda * curvature[i]))
    const policy = { compensation: { lambda, decay: null } }
    const on = new DownpourBench({ initial: base, strategy: { policy, maxStaleness: 3 }, rule: { rate } })
    const stale = gradientAt(base).map((x) => minibatches * x)
    for (let i = 0; i < 3; i++) on.push(noise(size, 2, 3, i))
    const before = on.weights
    on.push(stale, 3, minibatches)
    const applied = on.weights.map((x, i) => (before[i] - x) / rate)
    const exact = gradientAt(before).map((x) => minibatches * x)
    const worst = (of: Float32Array) => Math.max(...of.map((x, i) => Math.abs(x - exact[i]) / Math.max(1, Math.abs(x))))
    expect(worst(applied)).toBeLessThan(2e-5)
    expect(worst(stale)).toBeGreaterThan(0.1)
  }
})

describe('the versions that are kept', () => {
  const [size, maxStaleness] = [5, 4]
  const policy = { compensation: { lambda: 1, decay: null } }
  const bench = () =>
    new DownpourBench({ initial: noise(size, 1, 1), strategy: { policy, maxStaleness }, rule: { rate: 0.1 } })

  it('are the last maxStaleness, oldest first, and are in a checkpoint', () => {
    const on = bench()
    const versions: Float32Array[] = []
    for (let i = 0; i < 11; i++) {
      const kept = on.strategy.vectors.map((name) => on.parameters.vectors.read(name))
      expect(kept).toEqual(versions.slice(-maxStaleness))
      const names = on.parameters.checkpoint(on.strategy.vectors).map(({ name }) => name)
      expect(names).toEqual(['parameters', ...on.strategy.vectors])
      versions.push(on.weights)
      on.push(noise(size, 1, 2, i), Math.min(i, i % (maxStaleness + 1)))
    }
    expect(on.parameters.vectors.names.filter((name) => name.startsWith('base-'))).toHaveLength(maxStaleness)
  })

  it('lack one that is older, which nobody should have let pass', () => {
    const on = bench()
    for (let i = 0; i < 8; i++) on.push(noise(size, 1, 3, i))
    expect(() => on.push(noise(size, 1, 4), maxStaleness + 1)).toThrow('invariant: version 3 is not kept')
    on.push(noise(size, 1, 4), maxStaleness)
  })

  it('are none with maxStaleness 0', () => {
    const on = new DownpourBench({ initial: noise(size, 1, 1), strategy: { policy, maxStaleness: 0 } })
    for (let i = 0; i < 3; i++) on.push(noise(size, 1, 5, i))
    expect(on.strategy.vectors).toEqual([])
  })
})

it('the mean of squares never stays subnormal where a gradient has died', () => {
  const policy = { compensation: { lambda: 2, decay: 0.95 } }
  const on = new DownpourBench({ initial: new Float32Array(9), strategy: { policy, maxStaleness: 2 } })
  on.push(new Float32Array(9).fill(1e-10))
  for (let i = 0; i < 40 * FLUSH_EVERY; i++) {
    on.push(new Float32Array(9))
    const [mean] = on.parameters.vectors.read('mean-square')
    expect(mean === 0 || mean >= LEAST_NORMAL).toBe(true)
  }
  expect(on.parameters.vectors.read('mean-square')[0]).toBe(0)
})
