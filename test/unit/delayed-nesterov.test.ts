/** Delayed Nesterov against Nesterov's momentum in float64 (ALGORITHMS §6). */
import { expect, it } from 'vitest'
import { DownpourBench, noise } from '../support/downpour-bench.ts'

const SIZE = 37
const initial = noise(SIZE, 1, 1)

it.each([1, 4, 16])(
  'so many as %d pushes of one gradient move delayed Nesterov as far as one step of their mean',
  (delay) => {
    const [rate, momentum] = [0.05, 0.9]
    const gradient = noise(SIZE, 1, 7)
    const on = new DownpourBench({ initial, rule: { name: 'delayed-nesterov', rate, momentum, delay } })
    const w = Float64Array.from(initial)
    const m = new Float64Array(SIZE)
    for (let period = 0; period < 3; period++) {
      for (let i = 0; i < delay; i++) {
        const before = on.weights
        on.push(gradient)
        // Each moves at once; all but the last by their share alone.
        const after = on.weights
        for (let k = 0; k < SIZE && i + 1 < delay; k++) {
          expect(before[k] - after[k]).toBeCloseTo((rate * gradient[k]) / delay, 6)
        }
      }
      for (let k = 0; k < SIZE; k++) {
        m[k] = momentum * m[k] + gradient[k]
        w[k] -= rate * (gradient[k] + momentum * m[k])
        expect(on.weights[k]).toBeCloseTo(w[k], 5)
      }
    }
  },
)
