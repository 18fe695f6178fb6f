/**
 * Sandblaster L-BFGS (ALGORITHMS §3.2): the course of one volunteer with one portion, whoever computes, in whatever
 * portions and order, with losses, backups and crashes; on a convex problem and a small network.
 */
import { describe, expect, it } from 'vitest'
import { Lbfgs } from '../../coordinator/strategies/lbfgs.ts'
import type { IterationPoint } from '../../shared/api.ts'
import type { SandblasterSpec } from '../../shared/strategy-spec.ts'
import { Float64Space } from '../support/float64-space.ts'
import { network, softmaxRegression } from '../support/objectives.ts'
import { type CrowdOptions, type Objective, PortionCrowd } from '../support/portion-crowd.ts'

const softmax = softmaxRegression()
const tiny = network()

const spec = (more: Partial<SandblasterSpec> = {}): SandblasterSpec => ({
  ...{ name: 'sandblaster', memory: 10, tolerance: 1e-6, l2: 0, l1: 0 },
  ...{ portionSize: 1000, batchSize: 50, average: 'examples', backups: true, ...more },
})

const crowd = (more: Partial<SandblasterSpec> = {}, options: Partial<CrowdOptions> = {}) =>
  new PortionCrowd({ spec: spec(more), objective: softmax, iterations: 30, ...options })

const TROUBLE = { volunteers: 5, losses: 0.1, leaves: 0.02, crashes: 0.005 }

/** ‖a − b‖ / ‖b‖ */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, length] = [0, 0]
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2
    length += b[i] ** 2
  }
  return Math.sqrt(difference / length)
}

function expectCourse(got: readonly IterationPoint[], expected: readonly IterationPoint[], relative: number): void {
  expect(got.map(({ iteration, passes }) => [iteration, passes])).toEqual(
    expected.map(({ iteration, passes }) => [iteration, passes]),
  )
  got.forEach(({ loss }, i) => {
    expect(Math.abs(loss - expected[i].loss)).toBeLessThanOrEqual(relative * expected[i].loss)
  })
}

/** The optimiser by itself in plain loops, with the whole gradient at once, on vectors of float64 or of float32. */
function byItself({ examples, size, initial, add }: Objective, l2: number, iterations: number, rounded: boolean) {
  const space = new Float64Space(size, { rounded })
  for (const name of ['x', 'gx']) space.create(name)
  space.at('x').set(initial)
  const options = { memory: 10, tolerance: 1e-6, iterations, trial: 'x', trialGradient: 'gx' }
  const descent = new Lbfgs(options, space)
  const losses: number[] = []
  while (descent.stopped === null) {
    const [w, g] = [space.at('x'), space.at('gx').fill(0)]
    let loss = 0.5 * l2 * space.dot('x', 'x')
    for (let i = 0; i < examples; i++) loss += add(w, i, g, 1 / examples) / examples
    space.round('gx')
    space.axpy('gx', l2, 'x')
    const moves = descent.evaluated(loss)
    if (losses.length <= descent.iteration) losses.push(descent.accepted.value)
    if (moves) descent.place()
  }
  return { descent, losses, w: space.at('x') }
}

describe('Sandblaster', () => {
  describe.each([
    { name: 'softmax regression', objective: softmax, l2: 0, iterations: 30, weights: 1e-6 },
    { name: 'softmax regression with l2', objective: softmax, l2: 0.01, iterations: 30, weights: 1e-6 },
    { name: 'a small network', objective: tiny, l2: 0.01, iterations: 12, weights: 1e-6 },
  ])('$name', ({ objective, l2, iterations, weights }) => {
    const alone = crowd({ l2 }, { objective, iterations }).run()

    it.each([3, 7, 64, 199])('in portions of %i takes the course of one volunteer with one portion', (portionSize) => {
      for (const seed of [1, 2]) {
        const run = crowd({ l2, portionSize }, { objective, iterations, seed, ...TROUBLE }).run()
        expectCourse(run.history, alone.history, 1e-6)
        expect(distance(run.weights, alone.weights)).toBeLessThanOrEqual(weights)
        expect(run.strategy.ended).toBe(alone.strategy.ended)
      }
    })

    it('takes the course of the optimiser by itself, in float64 as far as float32 reaches', () => {
      const exact = byItself(objective, l2, iterations, false)
      const steps = Math.min(exact.losses.length, alone.history.length, 16)
      for (let i = 0; i < steps; i++) {
        expect(Math.abs(alone.history[i].loss - exact.losses[i])).toBeLessThanOrEqual(1e-5 * exact.losses[i])
      }
      const { losses, w } = byItself(objective, l2, iterations, true)
      expect(alone.history.length).toBe(losses.length)
      losses.forEach((loss, i) => {
        expect(Math.abs(alone.history[i].loss - loss)).toBeLessThanOrEqual(1e-6 * loss)
      })
      expect(distance(alone.weights, w)).toBeLessThanOrEqual(1e-6)
    })
  })

  it('[L8] [Y2] has the same bits in every crowd, with backups, losses and crashes', () => {
    const calm = crowd({ portionSize: 20, backups: false }).run()
    const seen = { backups: 0, late: 0, lost: 0, crashes: 0 }
    for (const seed of [1, 2, 3, 4]) {
      const run = crowd({ portionSize: 20 }, { ...TROUBLE, seed, volunteers: 1 + seed, crashes: 0.01 }).run()
      expect(run.weights).toEqual(calm.weights)
      expect(run.history).toEqual(calm.history)
      for (const what of Object.keys(seen) as (keyof typeof seen)[]) seen[what] += run.counts[what]
    }
    expect(calm.counts.backups).toBe(0)
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(5)
  })

  it('goes on with the same bits from a checkpoint between any two passes', () => {
    for (const objective of [softmax, tiny]) {
      const options = { objective, iterations: 14, volunteers: 2 }
      const whole = crowd({ portionSize: 40, memory: 3 }, options).run()
      for (let pass = 0; pass < whole.passes.length; pass++) {
        const run = crowd({ portionSize: 40, memory: 3 }, options)
        run.run(() => run.passes.length >= pass && run.strategy.quiescent)
        run.save()
        run.crash()
        expect(run.run().weights).toEqual(whole.weights)
        expect(run.history).toEqual(whole.history)
      }
    }
  })

  it('costs 1.1 to 1.5 passes an iteration, with its first', () => {
    for (const objective of [softmax, tiny]) {
      const run = crowd({}, { objective, iterations: 25 }).run()
      const passes = run.history.reduce((sum, point) => sum + point.passes!, 0)
      expect(passes).toBe(run.passes.length)
      expect(run.strategy.iterations).toBeGreaterThanOrEqual(15)
      expect(passes / run.strategy.iterations!).toBeLessThanOrEqual(1.5)
    }
  })

  it('publishes every trial point, and nothing that is none', () => {
    const run = crowd().run()
    // The last pass is at the point that is accepted: it stays.
    expect(run.parameters.version).toBe(run.passes.length - 1)
    expect(run.history.map(({ iteration }) => iteration)).toEqual(run.history.map((_, i) => i))
    expect(run.history[0]).toEqual({
      ...{ iteration: 0, loss: expect.closeTo(Math.log(4), 9), gradientNorm: expect.any(Number), passes: 1 },
    })
    expect(run.history[1].step).toBeCloseTo(1, 6)
  })

  it('[B2] ended in the middle of a search, ends at the best point that it accepted', () => {
    const whole = crowd({}, { iterations: 3 }).run()
    const run = crowd({}, { iterations: 30 })
    run.run(() => run.history.length === 4)
    expect(distance(run.weights, whole.weights)).toBeGreaterThan(1e-3)
    expect(run.strategy.conclude!()).toBe('published')
    expect(distance(run.weights, whole.weights)).toBe(0)
    expect(run.strategy.conclude!()).toBeNull()
    expect(run.strategy.ended).toMatch(/^ended after 3 iterations, before/)
  })

  it('gives volunteers their portions again, pass after pass', () => {
    const run = crowd({ portionSize: 10, batchSize: 10, backups: false }, { volunteers: 4 }).run()
    let same = 0
    let all = 0
    run.passes.slice(1).forEach((doers, i) => {
      for (const [from, volunteer] of doers) {
        all++
        if (run.passes[i].get(from) === volunteer) same++
      }
    })
    // By chance it would be a quarter.
    expect(same / all).toBeGreaterThan(0.7)
  })

  it('averages blocks as Spark does: a short block weighs as much as a long one', () => {
    const [batchSize, examples] = [64, tiny.examples]
    const g = new Float64Array(tiny.size)
    let loss = 0
    const blocks = Math.ceil(examples / batchSize)
    for (let i = 0; i < examples; i++) {
      const rows = Math.min(batchSize, examples - Math.floor(i / batchSize) * batchSize)
      loss += tiny.add(tiny.initial, i, g, 1 / rows / blocks) / rows / blocks
    }
    const runs = [10, 64, 100, 128, 1000].map((portionSize) =>
      crowd({ average: 'blocks', batchSize, portionSize }, { objective: tiny, iterations: 8, volunteers: 3 }).run(),
    )
    for (const run of runs) {
      expect(run.history[0].loss).toBeCloseTo(loss, 9)
      expect(run.history[0].gradientNorm).toBeCloseTo(Math.hypot(...g), 6)
      expectCourse(run.history, runs[0].history, 1e-6)
    }
    const examplesAlike = crowd({ batchSize }, { objective: tiny, iterations: 1 }).run()
    expect(Math.abs(examplesAlike.history[0].loss - loss)).toBeGreaterThan(1e-4)
  })

  it.each([1, 7, 128])('averages blocks of %d as it does examples where every block is full', (batchSize) => {
    const objective = softmaxRegression(896)
    const [blocks, examples] = (['blocks', 'examples'] as const).map((average) =>
      crowd({ average, batchSize, portionSize: 256 }, { objective, iterations: 8 }).run(),
    )
    expectCourse(blocks.history, examples.history, 1e-6)
    expect(distance(blocks.weights, examples.weights)).toBeLessThanOrEqual(1e-6)
  })

  it('steps back from a point whose loss is not finite, and ends at the best point it accepted', () => {
    // Too far out there is no loss: the first step, of length 1, is too long.
    const fenced: Objective = {
      ...softmax,
      add: (w, i, g, weight) => (Math.hypot(...Array.from(w)) > 0.8 ? Number.NaN : softmax.add(w, i, g, weight)),
    }
    const run = crowd({ portionSize: 50 }, { objective: fenced, volunteers: 3 }).run()
    expect(run.strategy.ended).toMatch(/^stopped after \d+ iterations: no step lowers the loss any more$/)
    const { loss } = run.history.at(-1)!
    expect(loss).toBeLessThan(run.history[0].loss)
    const g = new Float64Array(softmax.size)
    let mean = 0
    const w = run.weights
    for (let i = 0; i < softmax.examples; i++) mean += softmax.add(w, i, g, 1) / softmax.examples
    expect(mean).toBeCloseTo(loss, 12)
    expect(run.parameters.version).toBeGreaterThan(run.strategy.iterations!)
  })

  it('ends at once where the first loss is not finite', () => {
    const run = crowd({}, { objective: { ...softmax, add: () => Number.POSITIVE_INFINITY } }).run()
    expect(run.strategy.ended).toBe('stopped at once: the loss of the first parameters is not finite')
    expect([run.history, run.parameters.version]).toEqual([[], 0])
  })

  it('keeps in a checkpoint the pairs that it has, and no more than its memory', () => {
    const run = crowd({ memory: 3 })
    const kept = [0, 1, 2, 3, 4, 5].map((pass) => {
      run.run(() => run.passes.length > pass && run.strategy.quiescent)
      return run.strategy.vectors.filter((name) => /^[sy]\d+$/.test(name)).length
    })
    expect(kept).toEqual([0, 2, 4, 6, 6, 6])
  })

  it('refuses what is behind, binds to the newest version, and says so when it is done', () => {
    const run = crowd({}, { iterations: 3 }).run()
    expect(run.strategy.bind('l', 'ann', 7, 0.1)).toEqual({ version: 7, localRate: 0, continues: null })
    expect([run.strategy.maxStaleness, run.strategy.searches]).toEqual([0, true])
    expect(run.strategy.next(run.asking('v0'))).toEqual({ wait: 'all 3 iterations are done' })
  })
})
