/**
 * L-BFGS and its line search on objectives with known courses, in float64 (ALGORITHMS §1.3, §3.2): how many iterations
 * and evaluations they take, that every step keeps what the method promises, and that it can stop anywhere and go on.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Lbfgs, type LbfgsState, twoLoop } from '../../coordinator/strategies/lbfgs.ts'
import {
  begin,
  CURVATURE,
  type Progress,
  proceed,
  type Search,
  SUFFICIENT_DECREASE,
} from '../../coordinator/strategies/wolfe.ts'
import { Random } from '../../shared/random.ts'
import { Float64Space } from '../support/float64-space.ts'

/** f(x), with its gradient written into `g`. */
type Objective = (x: Float64Array, g: Float64Array) => number

const OPTIONS = { memory: 10, tolerance: 1e-6, iterations: 1000, trial: 'x', trialGradient: 'gx' }
type Options = Partial<typeof OPTIONS>

const normals = (seed: number, count: number) => {
  const random = new Random(seed)
  return Float64Array.from({ length: count }, (_, i) => random.normal(i))
}

const rosenbrock: Objective = ([x, y], g) => {
  g[0] = -400 * x * (y - x * x) - 2 * (1 - x)
  g[1] = 200 * (y - x * x)
  return 100 * (y - x * x) ** 2 + (1 - x) ** 2
}

/** Mean logistic loss of 500 examples of 20 features and ½λ‖w‖², λ = .01. */
function logistic(seed: number): Objective {
  const [rows, columns] = [500, 20]
  const inputs = normals(seed, rows * columns)
  const truth = normals(seed + 1, columns)
  const noise = normals(seed + 2, rows)
  const row = (r: number) => inputs.subarray(r * columns, (r + 1) * columns)
  const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0)
  const labels = Array.from({ length: rows }, (_, r) => (dot(row(r), truth) + noise[r] > 0 ? 1 : -1))
  return (w, g) => {
    let value = 0.005 * dot(w, w)
    for (let i = 0; i < columns; i++) g[i] = 0.01 * w[i]
    labels.forEach((label, r) => {
      const margin = label * dot(row(r), w)
      value += Math.log1p(Math.exp(-margin)) / rows
      const slope = -label / (1 + Math.exp(margin)) / rows
      for (let i = 0; i < columns; i++) g[i] += slope * row(r)[i]
    })
    return value
  }
}

/** ½(x−c)ᵀA(x−c) with eigenvalues from 1 to 10 in a random basis of 5 dimensions (Householder). */
function quadratic(seed: number): Objective {
  const v = normals(seed, 5)
  const squares = v.reduce((sum, value) => sum + value * value, 0)
  const center = normals(seed + 1, 5)
  const mirrored = (x: Float64Array) => {
    const along = (2 / squares) * x.reduce((sum, value, i) => sum + value * v[i], 0)
    return x.map((value, i) => value - along * v[i])
  }
  return (x, g) => {
    const inside = mirrored(x.map((value, i) => value - center[i])).map((value, i) => value * (1 + (9 * i) / 4))
    g.set(mirrored(inside))
    return 0.5 * g.reduce((sum, value, i) => sum + value * (x[i] - center[i]), 0)
  }
}

function open(start: ArrayLike<number>, options: Options = {}) {
  const space = new Float64Space(start.length)
  for (const name of ['x', 'gx']) space.create(name)
  space.at('x').set(start)
  return { space, descent: new Lbfgs({ ...OPTIONS, ...options }, space) }
}

/** Until it stops; `watch` looks at it before and after each evaluation. */
function minimise(
  objective: Objective,
  start: ArrayLike<number>,
  options: Options = {},
  watch: (descent: Lbfgs, space: Float64Space) => () => void = () => () => {},
) {
  const { space, descent } = open(start, options)
  let evaluations = 0
  while (descent.stopped === null) {
    const value = objective(space.at('x'), space.at('gx'))
    const after = watch(descent, space)
    evaluations++
    if (descent.evaluated(value)) descent.place()
    after()
  }
  return { descent, evaluations, x: space.at('x') }
}

/** Holds every accepted step to both Wolfe conditions and s·y > 0. */
function watchWolfe(descent: Lbfgs, space: Float64Space): () => void {
  const { search, iteration } = descent
  const slope = search === null ? 0 : space.dot('gx', 'd')
  return () => {
    if (search === null || descent.iteration === iteration) return
    const { value } = descent.accepted
    const { origin, t } = search
    expect(value).toBeLessThanOrEqual(origin.value + SUFFICIENT_DECREASE * t * origin.slope)
    expect(Math.abs(slope)).toBeLessThanOrEqual(CURVATURE * Math.abs(origin.slope))
    const newest = descent.toJSON().slots.at(-1)
    expect(space.dot(`s${newest}`, `y${newest}`)).toBeGreaterThan(0)
  }
}

describe('L-BFGS', () => {
  it('takes 37 iterations and 46 evaluations on Rosenbrock', () => {
    const { descent, evaluations, x } = minimise(rosenbrock, [-1.2, 1], {}, watchWolfe)
    expect([descent.iteration, evaluations, descent.stopped]).toEqual([37, 46, 'gradient'])
    expect(descent.accepted.value).toBeCloseTo(1.5e-22, 23)
    expect(Math.hypot(x[0] - 1, x[1] - 1)).toBeLessThan(1e-9)
  })

  it.each([1, 10, 100])('takes about 11 iterations, and one pass each, on logistic regression (data %i)', (seed) => {
    const { descent, evaluations } = minimise(logistic(seed), new Float64Array(20), {}, watchWolfe)
    expect(descent.stopped).toBe('gradient')
    expect(descent.iteration).toBeGreaterThanOrEqual(8)
    expect(descent.iteration).toBeLessThanOrEqual(14)
    expect(evaluations - descent.iteration).toBeLessThanOrEqual(3)
  })

  it.each([1, 2, 3])('takes about 14 iterations on a quadratic of condition 10 (data %i)', (seed) => {
    const { descent, evaluations } = minimise(quadratic(seed), new Float64Array(5), {}, watchWolfe)
    expect(descent.stopped).toBe('gradient')
    expect(descent.iteration).toBeGreaterThanOrEqual(9)
    expect(descent.iteration).toBeLessThanOrEqual(17)
    expect(evaluations - descent.iteration).toBeLessThanOrEqual(3)
  })

  it('stops when the iterations are up, at the last accepted point', () => {
    const { descent, x } = minimise(rosenbrock, [-1.2, 1], { iterations: 7 })
    expect([descent.iteration, descent.stopped]).toEqual([7, 'iterations'])
    expect(rosenbrock(x, new Float64Array(2))).toBe(descent.accepted.value)
  })

  it('stops when twenty values have not fallen by the tolerance', () => {
    // From far away the first loss is so large that crawling along the valley no longer counts.
    const { descent, evaluations } = minimise(rosenbrock, [-100, 100], { tolerance: 1e-8 })
    expect(descent.stopped).toBe('value')
    expect(descent.iteration).toBeGreaterThanOrEqual(20)
    expect(evaluations).toBeLessThan(100)
    const { first, values } = descent.toJSON()
    expect(Math.max(...values) - descent.accepted.value).toBeLessThanOrEqual(1e-8 * first)
  })

  it('stops at once where the gradient is none, or the loss is not finite', () => {
    expect(minimise(rosenbrock, [1, 1]).evaluations).toBe(1)
    expect(minimise(rosenbrock, [1, 1]).descent.stopped).toBe('gradient')
    const { descent, evaluations } = minimise(() => Number.NaN, [1, 1])
    expect([descent.stopped, evaluations]).toEqual(['not-finite', 1])
  })

  it('steps back from where the loss is not finite', () => {
    // −log x − log(1 − x) + 3x, only defined between 0 and 1.
    const barrier: Objective = ([x], g) => {
      g[0] = -1 / x + 1 / (1 - x) + 3
      return -Math.log(x) - Math.log(1 - x) + 3 * x
    }
    const { descent, x } = minimise(barrier, [0.9], {}, watchWolfe)
    expect(descent.stopped).toBe('gradient')
    expect(x[0]).toBeCloseTo((5 - Math.sqrt(13)) / 6, 5)
  })

  it('clears its history when a search fails, and goes on from the same point', () => {
    let evaluations = 0
    const pairs: number[] = []
    // Ten evaluations in the middle, a whole search, find nothing.
    const faulty: Objective = (x, g) => {
      const value = rosenbrock(x, g)
      return ++evaluations > 20 && evaluations <= 30 ? Number.POSITIVE_INFINITY : value
    }
    const { descent } = minimise(faulty, [-1.2, 1], {}, (watched) => () => pairs.push(watched.toJSON().slots.length))
    expect(descent.stopped).toBe('gradient')
    expect(descent.accepted.value).toBeLessThan(1e-12)
    expect(pairs[28]).toBe(10)
    expect(pairs[29]).toBe(0)
  })

  it('gives up when it fails twice in a row, at the last accepted point', () => {
    let evaluations = 0
    const faulty: Objective = (x, g) => {
      const value = rosenbrock(x, g)
      return ++evaluations > 20 ? Number.POSITIVE_INFINITY : value
    }
    const { descent, x } = minimise(faulty, [-1.2, 1])
    expect([descent.stopped, evaluations]).toEqual(['search-failed', 40])
    expect(rosenbrock(x, new Float64Array(2))).toBe(descent.accepted.value)
  })

  it('takes no step that is shorter than one', () => {
    // Falls within 1e-10 of the start only.
    const cliff: Objective = ([x], g) => {
      g[0] = x > 1e-10 ? 0 : x > 0 ? -0.5 : -1
      return x >= 1 ? Number.NaN : x > 1e-10 ? 1e9 : -x
    }
    const { descent, evaluations, x } = minimise(cliff, [0])
    expect([descent.stopped, descent.iteration, evaluations, x[0]]).toEqual(['search-failed', 0, 25, 0])
  })

  it('steps back from where the gradient is not finite', () => {
    const holed: Objective = (x, g) => {
      const value = rosenbrock(x, g)
      if (x[0] > -0.9 && x[0] < -0.8) g[1] = Number.NaN
      return value
    }
    const { descent } = minimise(holed, [-1.2, 1], {}, watchWolfe)
    expect(descent.stopped).toBe('gradient')
  })

  it('keeps the dot products of exactly the vectors that it has', () => {
    minimise(rosenbrock, [-1.2, 1], { memory: 3 }, (descent, space) => () => {
      const { slots, gram, stopped } = descent.toJSON()
      if (stopped !== null) return
      const basis = [...slots.map((slot) => `s${slot}`), ...slots.map((slot) => `y${slot}`), 'g']
      expect(slots.length).toBeLessThanOrEqual(3)
      expect(gram).toEqual(basis.map((a) => basis.map((b) => space.dot(a, b))))
    })
  })

  it('ends with a failed search where the tolerance is below the noise', () => {
    const rounded: Objective = (x, g) => Math.fround(logistic(1)(x, g))
    const { descent } = minimise(rounded, new Float64Array(20), { tolerance: 1e-12 })
    expect(descent.stopped).toBe('search-failed')
    expect(descent.accepted.gradientNorm).toBeLessThan(1e-3)
  })

  it.each([
    ['logistic regression', logistic(1), 20],
    ['a quadratic', quadratic(1), 5],
  ] as const)('comes close in float64 with a tolerance below it, however it ends (%s)', (_, objective, size) => {
    const { descent } = minimise(objective, new Float64Array(size), { tolerance: 1e-12 }, watchWolfe)
    expect(['gradient', 'value', 'search-failed']).toContain(descent.stopped)
    expect(descent.accepted.gradientNorm).toBeLessThan(1e-7)
  })

  it('goes on with the same bits from JSON and vectors, wherever it stopped', () => {
    const whole = minimise(rosenbrock, [-1.2, 1], { memory: 3 })
    let { space, descent } = open([-1.2, 1], { memory: 3 })
    let evaluations = 0
    while (descent.stopped === null) {
      const kept = new Float64Space(2)
      for (const name of ['x', 'gx', ...descent.vectors]) kept.vectors.set(name, space.at(name).slice())
      descent = new Lbfgs({ ...OPTIONS, memory: 3 }, kept, JSON.parse(JSON.stringify(descent)) as LbfgsState)
      space = kept
      evaluations++
      if (descent.evaluated(rosenbrock(space.at('x'), space.at('gx')))) descent.place()
    }
    expect(evaluations).toBe(whole.evaluations)
    expect(space.at('x')).toEqual(whole.x)
    expect(JSON.stringify(descent)).toBe(JSON.stringify(whole.descent))
  })
})

describe('the two-loop recursion on the Gram matrix', () => {
  /** As in Nocedal & Wright, algorithm 7.4, with vectors. */
  function plain(s: Float64Array[], y: Float64Array[], g: Float64Array): Float64Array {
    const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0)
    const q = g.slice()
    const a: number[] = []
    for (let i = s.length - 1; i >= 0; i--) {
      a[i] = dot(s[i], q) / dot(s[i], y[i])
      for (let j = 0; j < q.length; j++) q[j] -= a[i] * y[i][j]
    }
    const last = s.length - 1
    const scale = last < 0 ? 1 : dot(s[last], y[last]) / dot(y[last], y[last])
    for (let j = 0; j < q.length; j++) q[j] *= scale
    for (let i = 0; i < s.length; i++) {
      const b = dot(y[i], q) / dot(s[i], y[i])
      for (let j = 0; j < q.length; j++) q[j] += (a[i] - b) * s[i][j]
    }
    return q.map((value) => -value)
  }

  it('gives the same direction, to 1e-12', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10 }), fc.integer({ min: 1, max: 2 ** 30 }), (pairs, seed) => {
        const size = 40
        const s = Array.from({ length: pairs }, (_, i) => normals(seed + i, size))
        // Of a quadratic with curvatures from 1 to 3, so that s·y > 0.
        const y = s.map((vector) => vector.map((value, i) => value * (1 + (2 * i) / size)))
        const g = normals(seed + 100, size)
        const basis = [...s, ...y, g]
        const gram = basis.map((a) => basis.map((b) => a.reduce((sum, value, i) => sum + value * b[i], 0)))
        const factors = twoLoop(gram)!
        const expected = plain(s, y, g)
        const largest = Math.max(...expected.map(Math.abs))
        for (let j = 0; j < size; j++) {
          const got = basis.reduce((sum, vector, l) => sum + factors[l] * vector[j], 0)
          expect(Math.abs(got - expected[j])).toBeLessThanOrEqual(1e-12 * largest)
        }
      }),
    )
  })

  it('gives none from a history that bends the wrong way or is not finite', () => {
    const gram = (sy: number, yy: number) => [
      [1, sy, 0.5],
      [sy, yy, 0.5],
      [0.5, 0.5, 1],
    ]
    expect(twoLoop(gram(1, 2))).not.toBeNull()
    expect(twoLoop(gram(-1, 2))).toBeNull()
    expect(twoLoop(gram(0, 0))).toBeNull()
    expect(twoLoop(gram(Number.NaN, 1))).toBeNull()
  })
})

describe('the strong Wolfe search', () => {
  interface Curve {
    value(t: number): number
    slope(t: number): number
  }

  function search({ value, slope }: Curve, first: number) {
    const probes: number[] = []
    let progress: Progress = begin(value(0), slope(0), first)
    while (progress.kind === 'probe') {
      const next: Search = JSON.parse(JSON.stringify(progress.search))
      expect(next).toEqual(progress.search)
      probes.push(next.t)
      progress = proceed(next, value(next.t), slope(next.t))
    }
    return { progress, probes }
  }

  it('accepts only what fulfils both conditions, in at most 20 evaluations, on any wave', () => {
    const wave = fc.record({
      depth: fc.double({ min: 0.1, max: 10, noNaN: true }),
      height: fc.double({ min: 0, max: 3, noNaN: true }),
      speed: fc.double({ min: 0.1, max: 20, noNaN: true }),
      shift: fc.double({ min: 0, max: 6, noNaN: true }),
      width: fc.double({ min: 0.01, max: 100, noNaN: true }),
    })
    let accepted = 0
    fc.assert(
      fc.property(wave, fc.double({ min: 0.01, max: 100, noNaN: true }), (of, first) => {
        const { depth, height, speed, shift, width } = of
        const curve: Curve = {
          value: (t) => depth * (t / width - 1) ** 2 + height * Math.sin(speed * t + shift),
          slope: (t) => (2 * depth * (t / width - 1)) / width + height * speed * Math.cos(speed * t + shift),
        }
        const { progress, probes } = search(curve, first)
        if (curve.slope(0) > 0) {
          expect([progress.kind, probes]).toEqual(['failed', []])
          return
        }
        expect(probes.length).toBeLessThanOrEqual(20)
        if (progress.kind !== 'accepted') return
        accepted++
        const { t } = progress
        expect(t).toBe(probes.at(-1))
        expect(curve.value(t)).toBeLessThanOrEqual(curve.value(0) + SUFFICIENT_DECREASE * t * curve.slope(0))
        expect(Math.abs(curve.slope(t))).toBeLessThanOrEqual(CURVATURE * Math.abs(curve.slope(0)))
      }),
      { numRuns: 500, seed: 7 },
    )
    expect(accepted).toBeGreaterThan(150)
  })

  it('goes on in steps half as long again while it falls steeply, ten times at most', () => {
    const { progress, probes } = search({ value: (t) => 5 - t, slope: () => -1 }, 1)
    expect(progress.kind).toBe('failed')
    expect(probes).toEqual(Array.from({ length: 10 }, (_, i) => 1.5 ** i))
  })

  it('halves the step where the loss is not finite, and keeps out of there while it zooms', () => {
    const curve: Curve = {
      value: (t) => (t < 0.3 ? (t - 0.1) ** 2 : Number.POSITIVE_INFINITY),
      slope: (t) => (t < 0.3 ? 2 * (t - 0.1) : Number.NaN),
    }
    const { progress, probes } = search(curve, 1)
    expect(probes).toEqual([1, 0.5, 0.25, expect.closeTo(0.1, 10)])
    expect(progress.kind).toBe('accepted')
  })

  it('stays a tenth of the bracket away from its ends, and gives up after ten points between them', () => {
    // A high plateau draws the cubic's minimum to 0.
    const { progress, probes } = search({ value: (t) => (t === 0 ? 0 : 1e9), slope: (t) => (t === 0 ? -1 : 0) }, 1)
    expect(progress.kind).toBe('failed')
    expect(probes).toEqual(Array.from({ length: 11 }, (_, i) => expect.closeTo(10 ** -i, i + 5)))
  })
})
