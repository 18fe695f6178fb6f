/**
 * Downpour's policy: what is done with an update that is stale. Weights, buffer and the cut-off here; compensation and
 * bounds in files of their own.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stalenessWeight } from '../../coordinator/strategies/staleness.ts'
import { DownpourBench, noise } from '../support/downpour-bench.ts'
import { expectSame } from '../support/kernel-workbench.ts'
import { softmaxRegression } from '../support/objectives.ts'

const SIZE = 37
const initial = noise(SIZE, 1, 1)
const bench = (policy: object, more: object = {}) =>
  new DownpourBench({ initial, ...more, strategy: { policy, maxStaleness: 6 } })

const weights = {
  none: { name: 'none' },
  inverse: { name: 'inverse' },
  root: { name: 'power', exponent: 0.5 },
  power: { name: 'power', exponent: 0.3 },
  hinge: { name: 'hinge', slope: 0.5, from: 4 },
} as const
const compensations = { constant: { lambda: 0.5, decay: null }, adaptive: { lambda: 2, decay: 0.95 } }

describe('staleness weights', () => {
  it('none is 1, inverse 1/max(1, τ), power (1+τ)^-a, hinge 1 up to b and then 1/(a(τ-b)+1)', () => {
    const at = (weight: keyof typeof weights) => [0, 1, 3, 4, 8].map((tau) => stalenessWeight(weights[weight], tau))
    expect(at('none')).toEqual([1, 1, 1, 1, 1])
    expect(at('inverse')).toEqual([1, 1, 1 / 3, 1 / 4, 1 / 8])
    expect(at('root')).toEqual([1, 1 / Math.sqrt(2), 1 / 2, 1 / Math.sqrt(5), 1 / 3])
    expect(at('power')).toEqual([1, 0.812252, 0.659754, 0.617034, 0.517282])
    expect(at('hinge')).toEqual([1, 1, 1, 1, 1 / 3])
  })

  it('is 1 at τ = 0, never larger, never grows with τ, and is no number that a last bit of pow could change', () => {
    const exponent = fc.double({ min: 0.01, max: 4, noNaN: true })
    fc.assert(
      fc.property(exponent, fc.nat(5000), (a, tau) => {
        for (const weight of [{ name: 'power', exponent: a } as const, ...Object.values(weights)]) {
          const [fresh, now, later] = [0, tau, tau + 1].map((staleness) => stalenessWeight(weight, staleness))
          expect(fresh).toBe(1)
          expect(now).toBeLessThanOrEqual(1)
          expect(later).toBeLessThanOrEqual(now)
          expect(later).toBeGreaterThan(0)
        }
        const power = stalenessWeight({ name: 'power', exponent: a }, tau)
        if (a !== 0.5) expect(power).toBe(Number(power.toPrecision(6)))
        expect(Math.abs(power / (1 + tau) ** -a - 1)).toBeLessThan(1e-5)
      }),
    )
  })
})

describe('four volunteers in lock-step', () => {
  const [crowd, each, rate] = [4, 8, 0.5]
  const { size, initial, add } = softmaxRegression(crowd * each * 20)
  const meanGradient = (w: ArrayLike<number>, from: number, count: number) => {
    const g = new Float64Array(size)
    for (let i = from; i < from + count; i++) add(w, i, g, 1 / count)
    return Float32Array.from(g)
  }
  const direct = Float64Array.from(initial)
  for (let step = 0; step < 20; step++) {
    meanGradient(direct, step * crowd * each, crowd * each).forEach((slope, k) => {
      direct[k] -= rate * slope
    })
  }
  /** Each step's four gradients are of the version that the step begins with. */
  const stepped = (buffer: number, rate: number) => {
    const on = new DownpourBench({
      initial,
      strategy: { policy: { buffer }, maxStaleness: 6 },
      rule: { name: 'sgd', rate },
    })
    for (let step = 0; step < 20; step++) {
      const w = on.weights
      for (let v = 0; v < crowd; v++) {
        on.push(meanGradient(w, (step * crowd + v) * each, each), buffer > 1 ? 0 : v)
      }
    }
    return Math.hypot(...on.weights.map((weight, k) => weight - direct[k]))
  }

  it('whose gradients of one version are averaged are minibatch SGD of four times the examples', () => {
    expect(stepped(crowd, rate)).toBeLessThan(1e-5)
    expect(stepped(1, rate / crowd)).toBeLessThan(1e-5)
  })

  it('who each take the newest version are not', () => {
    const on = new DownpourBench({ initial, rule: { name: 'sgd', rate: rate / crowd } })
    for (let at = 0; at < 20 * crowd; at++) on.push(meanGradient(on.weights, at * each, each))
    expect(Math.hypot(...on.weights.map((weight, k) => weight - direct[k]))).toBeGreaterThan(1e-2)
  })
})

describe('the weight cost', () => {
  const [rate, weightCost] = [0.1, 0.1]
  const zero = new Float32Array(SIZE)
  /** What is left of a weight after these pushes of a gradient that is 0: of so many minibatches, so stale. */
  const left = (pushes: readonly (readonly [minibatches: number, staleness: number])[], policy = {}) => {
    const on = new DownpourBench({
      initial,
      strategy: { policy, maxStaleness: 6 },
      rule: { name: 'sgd', rate },
      weightCost,
    })
    for (const [minibatches, staleness] of pushes) on.push(zero, staleness, minibatches)
    return on.weights[0] / initial[0]
  }

  it('is of each minibatch, whoever computes how many of them at a time', () => {
    expect(left([[8, 0]])).toBeCloseTo(1 - 8 * rate * weightCost, 6)
    expect(left(Array(8).fill([1, 0]))).toBeCloseTo((1 - rate * weightCost) ** 8, 6)
    expect(
      left([
        [3, 0],
        [5, 0],
      ]),
    ).toBeCloseTo((1 - 3 * rate * weightCost) * (1 - 5 * rate * weightCost), 6)
  })

  it('weighs as much as the update that it belongs to', () => {
    const weight = { name: 'inverse' }
    expect(
      left(
        [
          [4, 0],
          [4, 0],
          [4, 2],
        ],
        { weight },
      ),
    ).toBeCloseTo(0.96 ** 2 * 0.98, 6)
    expect(
      left(
        [
          [2, 0],
          [6, 0],
        ],
        { buffer: 2 },
      ),
    ).toBeCloseTo(1 - 4 * rate * weightCost, 6)
  })
})

describe.each(['sgd', 'momentum', 'delayed-nesterov', 'adagrad', 'adam'])('with rule %s', (name) => {
  it.each([0, 0.01])('[B2] at staleness 0 every policy has the bits of none (weight cost %d)', (weightCost) => {
    const more = { rule: { name, rate: 0.05 }, weightCost }
    const policies = Object.values(weights).flatMap((weight) => [
      { weight },
      { weight, compensation: compensations.constant },
      { weight, compensation: compensations.adaptive },
    ])
    const plain = bench({}, more)
    const benches = policies.map((policy) => bench(policy, more))
    for (let i = 0; i < 5; i++) {
      const gradient = noise(SIZE, 3, 2, i)
      gradient[i] = -0
      for (const each of [plain, ...benches]) each.push(gradient, 0, 1 + i)
    }
    for (const { weights } of benches) expectSame(weights, plain.weights)
  })

  it('a log of arrivals gives the same weights again, from the beginning and from every point of it', () => {
    for (const buffer of [1, 3]) {
      const policy = { weight: weights.power, compensation: compensations.adaptive, buffer }
      const options = { initial, strategy: { policy, maxStaleness: 6 }, rule: { name, rate: 0.05 } }
      const log = Array.from({ length: 24 }, (_, i) => ({
        gradient: noise(SIZE, 1, 3, i),
        staleness: (i * 5) % 7,
        minibatches: 1 + (i % 3),
      }))
      const run = (on: DownpourBench, from: number) => {
        for (const { gradient, staleness, minibatches } of log.slice(from)) {
          on.push(gradient, Math.min(staleness, on.parameters.version), minibatches)
        }
        on.flush()
        return on
      }
      const whole = run(new DownpourBench(options), 0)
      const live = new DownpourBench(options)
      for (let from = 0; from <= log.length; from++) {
        if (live.strategy.quiescent) {
          const back = run(new DownpourBench({ ...options, saved: live }), from)
          expectSame(back.weights, whole.weights)
          expect(back.parameters.version).toBe(whole.parameters.version)
          expect(JSON.stringify(back.strategy)).toBe(JSON.stringify(whole.strategy))
        }
        if (from === log.length) break
        const { gradient, staleness, minibatches } = log[from]
        live.push(gradient, Math.min(staleness, live.parameters.version), minibatches)
      }
    }
  })
})

it.each([1, 3])('weights, compensation and a buffer of %d together are what float64 says that they are', (buffer) => {
  const [rate, lambda, decay] = [0.05, 0.7, 0.9]
  for (const adaptive of [false, true]) {
    const policy = { weight: weights.hinge, compensation: { lambda, decay: adaptive ? decay : null }, buffer }
    const on = new DownpourBench({ initial, strategy: { policy, maxStaleness: 6 }, rule: { name: 'sgd', rate } })
    const versions = [Float64Array.from(initial)]
    const squares = new Float64Array(SIZE)
    let step = new Float64Array(SIZE)
    for (let i = 0; i < 40; i++) {
      const [n, gradient] = [1 + (i % 4), noise(SIZE, 2, 4, i)]
      const staleness = Math.min(versions.length - 1, (i * 3) % 7)
      const [w, base] = [versions.at(-1)!, versions.at(-1 - staleness)!]
      const tau = staleness > 4 ? 1 / (0.5 * (staleness - 4) + 1) : 1
      for (let j = 0; j < SIZE; j++) {
        const mean = gradient[j] / n
        squares[j] = decay * squares[j] + (1 - decay) * mean * mean
        const strength = adaptive ? lambda / Math.sqrt(squares[j] + 1e-7) : lambda
        step[j] += (tau / buffer) * n * (mean + strength * mean * mean * (w[j] - base[j]))
      }
      on.push(gradient, staleness, n)
      if (i % buffer !== buffer - 1 && i < 39) continue
      if (i === 39) on.flush()
      versions.push(w.map((value, j) => value - rate * step[j]))
      step = new Float64Array(SIZE)
    }
    expect(on.parameters.version).toBe(versions.length - 1)
    const last = versions.at(-1)!
    const errors = on.weights.map((value, j) => Math.abs(value - last[j]) / Math.max(1, Math.abs(last[j])))
    expect(Math.max(...errors)).toBeLessThan(2e-5)
    expect(Math.max(...last.map((value, j) => Math.abs(value - initial[j])))).toBeGreaterThan(0.1)
  }
})

describe('buffer', () => {
  it('makes one step of K updates, and is not quiescent before it', () => {
    const on = bench({ buffer: 4 })
    const { strategy, parameters } = on
    const seen: unknown[] = []
    for (let i = 0; i < 9; i++) {
      seen.push([parameters.version, strategy.quiescent])
      on.push(noise(SIZE, 1, 5, i))
    }
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => [Math.floor(i / 4), i % 4 === 0]))
  })

  it.each([2, 3, 8, 64])('%d identical gradients are one step of their mean', (buffer) => {
    const gradient = noise(SIZE, 1, 6)
    const [on, plain] = [bench({ buffer }), bench({})]
    for (let i = 0; i < buffer; i++) on.push(gradient)
    plain.push(gradient)
    expect(on.parameters.version).toBe(1)
    const errors = on.weights.map((value, i) => Math.abs(value - plain.weights[i]))
    // The sum of K terms rounds K times, each by at most half a unit of the last place.
    expect(Math.max(...errors)).toBeLessThan(0.1 * buffer * 2 ** -22)
    if (buffer === 2) expectSame(on.weights, plain.weights)
  })

  it('[B2] does not lose the last ones, fewer than K: each counts for 1/K as all others do', () => {
    const [on, full] = [bench({ buffer: 4 }), bench({ buffer: 4 })]
    for (let i = 0; i < 6; i++) for (const each of [on, full]) each.push(noise(SIZE, 1, 7, i))
    expect(on.flush()).not.toBeNull()
    for (let i = 0; i < 2; i++) full.push(new Float32Array(SIZE))
    expectSame(on.weights, full.weights)
    expect(on.parameters.version).toBe(2)
    expect(on.strategy.quiescent).toBe(true)
    expect(on.flush()).toBeNull()
  })

  it('flushes nothing where there is none, or every update is applied at once', () => {
    for (const policy of [{ buffer: 4 }, {}]) {
      const on = bench(policy)
      expect(on.flush()).toBeNull()
      if (!('buffer' in policy)) on.push(noise(SIZE, 1, 8))
      expect(on.flush()).toBeNull()
    }
  })
})

describe("[S1] maxStaleness, Ringmaster's R - 1", () => {
  const target = noise(SIZE, 1, 9)

  /** Volunteers of uneven speed on a noisy quadratic; an update counts while its delay is at most maxStaleness. */
  function crowd(volunteers: number, maxStaleness: number, updates: number) {
    const on = new DownpourBench({ initial, strategy: { maxStaleness }, rule: { name: 'sgd', rate: 0.05 } })
    const tasks = Array.from({ length: volunteers }, (_, i) => ({ due: 1 + i, version: 0, at: initial }))
    const accepted: { staleness: number; example: number }[] = []
    let refused = 0
    for (let example = 0; accepted.length < updates; example++) {
      const task = tasks.reduce((first, other) => (other.due < first.due ? other : first))
      const staleness = on.parameters.version - task.version
      if (staleness <= on.strategy.maxStaleness) {
        on.push(gradientAt(task.at, example), staleness)
        accepted.push({ staleness, example })
      } else refused++
      const speed = 1 + (tasks.indexOf(task) % 5)
      Object.assign(task, { due: task.due + speed, version: on.parameters.version, at: on.weights })
    }
    return { weights: on.weights, accepted, refused }
  }

  function gradientAt(weights: Float32Array, example: number): Float32Array {
    const error = noise(SIZE, 0.1, 10, example)
    return weights.map((value, i) => value - target[i] + error[i])
  }

  it('0 is sequential SGD on what was accepted, whoever computed it; one volunteer is never refused', () => {
    for (const volunteers of [1, 6]) {
      const { weights, accepted, refused } = crowd(volunteers, 0, 50)
      const alone = new DownpourBench({ initial, rule: { name: 'sgd', rate: 0.05 } })
      for (const { staleness, example } of accepted) {
        expect(staleness).toBe(0)
        alone.push(gradientAt(alone.weights, example))
      }
      expectSame(weights, alone.weights)
      expect(refused > 0).toBe(volunteers > 1)
    }
  })

  it('one above every delay is plain asynchronous SGD: nothing is refused', () => {
    const plain = crowd(6, 1000, 50)
    const most = Math.max(...plain.accepted.map(({ staleness }) => staleness))
    expect(plain.refused).toBe(0)
    expect(most).toBeGreaterThan(5)
    expect(crowd(6, most, 50)).toEqual(plain)
    expect(crowd(6, most - 1, 50).refused).toBeGreaterThan(0)
  })
})
