/** Spark's GradientDescent on the grid, held to what ALGORITHMS §1.1 asks to be verified, letter by letter. */
import { describe, expect, it } from 'vitest'
import type { GradientDescentSpec } from '../../shared/strategy-spec.ts'
import { softmaxRegression } from '../support/objectives.ts'
import { type CrowdOptions, inSample, type Objective, PortionCrowd } from '../support/portion-crowd.ts'

const objective = softmaxRegression()

const spec = (more: Partial<GradientDescentSpec> = {}): GradientDescentSpec => ({
  ...{ name: 'gradient-descent', updater: 'simple', rate: 1, decay: 'sqrt', regularization: 0, fraction: 1 },
  ...{ tolerance: 0, portionSize: 1000, batchSize: 50, ...more },
})

const crowd = (more: Partial<GradientDescentSpec> = {}, options: Partial<CrowdOptions> = {}) =>
  new PortionCrowd({ spec: spec(more), objective, iterations: 20, ...options })

/** The same in one fold in float64, as §1.1 writes it. */
function single(of: GradientDescentSpec, { examples, size, initial, add }: Objective, iterations: number) {
  const losses: number[] = []
  const { updater, regularization: lambda } = of
  const squares = (w: Float64Array) => w.reduce((sum, value) => sum + value * value, 0)
  const cost = (w: Float64Array) => {
    if (updater === 'simple') return 0
    return lambda * (updater === 'l1' ? w.reduce((sum, value) => sum + Math.abs(value), 0) : 0.5 * squares(w))
  }
  const w = Float64Array.from(initial)
  let steps = 0
  let i = 1
  for (let converged = false; !converged && i <= iterations; i++) {
    const sample = Array.from({ length: examples }, (_, n) => n).filter((n) => inSample(i - 1, of.fraction, n))
    if (sample.length === 0) continue
    const g = new Float64Array(size)
    const loss = sample.reduce((sum, n) => sum + add(w, n, g, 1 / sample.length), 0) / sample.length
    losses.push(loss + cost(w))
    const before = w.slice()
    const rate = of.decay === 'sqrt' ? of.rate / Math.sqrt(i) : of.rate
    for (let k = 0; k < size; k++) {
      if (updater === 'squared-l2') w[k] *= 1 - rate * lambda
      w[k] -= rate * g[k]
      if (updater === 'l1') w[k] = Math.sign(w[k]) * Math.max(0, Math.abs(w[k]) - lambda * rate)
    }
    const step = Math.sqrt(squares(w.map((value, k) => value - before[k])))
    converged = ++steps > 1 && step < of.tolerance * Math.max(Math.sqrt(squares(w)), 1)
  }
  return { losses, w, iterations: i - 1 }
}

function expectClose(got: ArrayLike<number>, expected: ArrayLike<number>, relative: number): void {
  const largest = Math.max(...Array.from(expected, Math.abs))
  expect(got.length).toBe(expected.length)
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(got[i] - expected[i])).toBeLessThanOrEqual(relative * largest)
  }
}

const losses = ({ history }: PortionCrowd) => history.map(({ loss }) => loss)

const UPDATERS = [
  { updater: 'simple', regularization: 0 },
  { updater: 'squared-l2', regularization: 0.1 },
  { updater: 'l1', regularization: 0.02 },
  { updater: 'simple', regularization: 0, fraction: 0.3 },
  { updater: 'squared-l2', regularization: 0.1, decay: 'none', rate: 0.2, fraction: 0.7 },
] as const

describe('gradient descent', () => {
  it.each(UPDATERS)('(a) any portions and any crowd come to the single fold: %o', (settings) => {
    const expected = single(spec(settings), objective, 20)
    for (const [portionSize, volunteers] of [
      [1000, 1],
      [64, 3],
      [7, 6],
    ]) {
      const chances = volunteers === 1 ? {} : { losses: 0.1, leaves: 0.02, crashes: 0.005 }
      const run = crowd({ ...settings, portionSize }, { volunteers, ...chances }).run()
      expectClose(losses(run), expected.losses, 1e-6)
      expectClose(run.weights, expected.w, 1e-5)
    }
  })

  it('(b) has the same bits in every crowd, after losses and crashes', () => {
    const runs = [1, 2, 3].map((seed) =>
      crowd({ portionSize: 20 }, { seed, volunteers: 2 * seed, losses: 0.1, leaves: 0.02, crashes: 0.01 }).run(),
    )
    expect(runs.reduce((sum, { counts }) => sum + counts.crashes, 0)).toBeGreaterThan(0)
    const calm = crowd({ portionSize: 20 }).run()
    for (const run of runs) {
      expect(run.weights).toEqual(calm.weights)
      expect(run.history).toEqual(calm.history)
    }
  })

  it('(c) l1 makes weights zero that a step brings within λη, and keeps the sign of the others', () => {
    const [rate, regularization] = [0.5, 0.05]
    const before = crowd({ rate, updater: 'simple' }, { iterations: 1 }).run().weights
    const after = crowd({ rate, updater: 'l1', regularization }, { iterations: 1 }).run().weights
    const zeros = before.filter((u) => Math.abs(u) <= rate * regularization).length
    expect(zeros).toBeGreaterThan(0)
    expect(zeros).toBeLessThan(before.length)
    after.forEach((w, k) => {
      expect(w).toBeCloseTo(Math.sign(before[k]) * Math.max(0, Math.abs(before[k]) - rate * regularization), 6)
      if (Math.abs(before[k]) <= rate * regularization) expect(Math.abs(w)).toBe(0)
    })
  })

  it('(c) squared-l2 with no gradient shrinks by 1 − ηλ', () => {
    const flat: Objective = { examples: 10, size: 3, initial: Float32Array.of(1, -2, 4), add: () => 0 }
    const settings = { updater: 'squared-l2', rate: 0.5, regularization: 0.1, portionSize: 3 } as const
    const run = new PortionCrowd({ spec: spec(settings), objective: flat, iterations: 3 }).run()
    const factor = [1, 2, 3].reduce((product, i) => product * (1 - (0.5 / Math.sqrt(i)) * 0.1), 1)
    expectClose(run.weights, [factor, -2 * factor, 4 * factor], 1e-6)
  })

  it('(d) the first of the history is loss and cost of the first weights', () => {
    const initial = Float32Array.from({ length: objective.size }, (_, k) => 0.1 * (k % 5) - 0.2)
    const from = { ...objective, initial }
    const g = new Float64Array(objective.size)
    let loss = 0
    for (let n = 0; n < objective.examples; n++) loss += objective.add(initial, n, g, 1) / objective.examples
    const norm1 = initial.reduce((sum, value) => sum + Math.abs(value), 0)
    const norm2 = initial.reduce((sum, value) => sum + value * value, 0)
    for (const [updater, cost] of [
      ['simple', 0],
      ['l1', 0.3 * norm1],
      ['squared-l2', 0.15 * norm2],
    ] as const) {
      const [first] = crowd({ updater, regularization: 0.3 }, { objective: from, iterations: 1 }).run().history
      expect(first.loss).toBeCloseTo(loss + cost, 12)
      expect(first).toMatchObject({ iteration: 1, passes: 1 })
      expect(first.gradientNorm).toBeCloseTo(Math.hypot(...g) / objective.examples, 6)
    }
  })

  it('(e) without tolerance it runs all iterations', () => {
    const run = crowd({ tolerance: 0, rate: 1e-9 }, { iterations: 7 }).run()
    expect(run.strategy.ended).toBe('all 7 iterations are done')
    expect(run.history.map(({ iteration }) => iteration)).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(run.parameters.version).toBe(7)
  })

  it('(e) with tolerance it stops where §1.1 does, and not after its first step', () => {
    const settings = { tolerance: 0.01, rate: 2 }
    const expected = single(spec(settings), objective, 200)
    expect(expected.iterations).toBeLessThan(200)
    const run = crowd({ ...settings, portionSize: 50 }, { iterations: 200, volunteers: 3 }).run()
    expect(run.strategy.iterations).toBe(expected.iterations)
    expect(run.strategy.ended).toBe(`converged after ${expected.iterations} iterations`)
    expect(crowd({ rate: 1e-9, tolerance: 0.5 }, { iterations: 9 }).run().strategy.iterations).toBe(2)
  })

  it('(e) an empty sample leaves the weights and the history, and counts as an iteration', () => {
    const run = crowd({ fraction: 1e-6, portionSize: 100 }, { iterations: 5, volunteers: 2 }).run()
    expect(run.strategy.iterations).toBe(5)
    expect(run.strategy.ended).toBe('all 5 iterations are done')
    expect(run.strategy.failure).toBe('the samples of all 5 iterations were empty; raise fraction')
    expect(run.history).toEqual([])
    expect(run.weights).toEqual(objective.initial)
    expect(run.parameters.version).toBe(0)
  })

  it('(e) after an empty sample the rate goes on with i', () => {
    // Of 300 examples 0.6 on average: about half of the samples are empty.
    const settings = { fraction: 0.002, portionSize: 100 }
    const expected = single(spec(settings), objective, 20)
    expect(expected.losses.length).toBeGreaterThan(3)
    expect(expected.losses.length).toBeLessThan(18)
    const run = crowd(settings).run()
    expectClose(losses(run), expected.losses, 1e-5)
    expectClose(run.weights, expected.w, 1e-5)
    expect(run.strategy.failure).toBeNull()
  })

  it('[Y3] (f) a sample has the fraction of all examples on average, the same for every crowd', () => {
    const fraction = 0.3
    const passes = 200
    let taken = 0
    for (let pass = 0; pass < passes; pass++) {
      for (let n = 0; n < objective.examples; n++) if (inSample(pass, fraction, n)) taken++
    }
    const draws = passes * objective.examples
    expect(Math.abs(taken - draws * fraction)).toBeLessThan(4 * Math.sqrt(draws * fraction * (1 - fraction)))
    const [one, six] = [1, 6].map((volunteers) =>
      crowd({ fraction, portionSize: 30 }, { volunteers, seed: volunteers }),
    )
    expect(six.run().weights).toEqual(one.run().weights)
  })

  it('gives backups, refuses what is behind, and says so when it is done', () => {
    const run = crowd({ portionSize: 30 }, { volunteers: 5, losses: 0.1, iterations: 5 }).run()
    expect(run.counts.backups).toBeGreaterThan(0)
    expect(run.strategy.maxStaleness).toBe(0)
    expect(run.strategy.next(run.asking('v0'))).toEqual({ wait: 'all 5 iterations are done' })
    expect(run.passes).toHaveLength(5)
  })
})
