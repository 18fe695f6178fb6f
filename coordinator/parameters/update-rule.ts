/**
 * Update rules: how a gradient changes the parameters. A rule is a kernel call over a piece of the vectors and the
 * names of the state vectors it keeps; it holds nothing itself, so it can be checkpointed, replayed and tested alone.
 */
import { FLUSH_EVERY, type Kernels } from '../../shared/kernels/kernels.ts'
import type { UpdateRuleSpec } from '../../shared/run-spec.ts'

export interface StepScalars {
  /** Multiplies the gradient before anything else. */
  readonly weight: number
  readonly rate: number
  /** Passes over the examples so far, with fraction. */
  readonly epoch: number
  /** The step's number, from 1. */
  readonly step: number
}

export interface UpdateRule {
  /** Vectors of the parameters' size that the rule keeps. */
  readonly state: readonly string[]
  /** What every element of them is at first. */
  readonly initialState: number
  /**
   * One step in place over `count` floats; `at` gives the pointer of a vector: parameters, gradient or the rule's own.
   */
  step(kernels: Kernels, count: number, at: (name: string) => number, scalars: StepScalars): void
}

export function updateRule(spec: UpdateRuleSpec): UpdateRule {
  switch (spec.name) {
    case 'sgd':
      return {
        state: [],
        initialState: 0,
        step: (kernels, count, at, { weight, rate }) =>
          kernels.sgd(at('parameters'), at('gradient'), count, { weight, rate }),
      }
    case 'momentum':
      return {
        state: ['momentum'],
        initialState: 0,
        step(kernels, count, at, { weight, rate, epoch, step }) {
          const momentum = spec.early !== undefined && epoch < spec.early.epochs ? spec.early.momentum : spec.momentum
          kernels.momentum(at('parameters'), at('gradient'), at('momentum'), count, { weight, rate, momentum })
          flush(kernels, [at('momentum')], count, step)
        },
      }
    case 'delayed-nesterov': {
      const { momentum, delay } = spec
      return {
        state: ['momentum', 'pushed'],
        initialState: 0,
        step(kernels, count, at, { weight, rate, step }) {
          const [parameters, gradient, mean, pushed] = ['parameters', 'gradient', 'momentum', 'pushed'].map(at)
          kernels.accumulate(pushed, gradient, count, weight / delay)
          kernels.sgd(parameters, gradient, count, { weight: weight / delay, rate })
          if (step % delay !== 0) return
          kernels.scale(mean, count, momentum)
          kernels.accumulate(mean, pushed, count, 1)
          kernels.fill(pushed, count, 0)
          kernels.accumulate(parameters, mean, count, -rate * momentum)
          flush(kernels, [mean], count, step / delay)
        },
      }
    }
    case 'adagrad':
      return {
        state: ['squares'],
        initialState: spec.initial,
        step: (kernels, count, at, { weight, rate }) =>
          kernels.adagrad(at('parameters'), at('gradient'), at('squares'), count, {
            weight,
            rate,
            epsilon: spec.epsilon,
          }),
      }
    case 'adam':
      return {
        state: ['first', 'second'],
        initialState: 0,
        step(kernels, count, at, { weight, rate, step }) {
          const [first, second] = [at('first'), at('second')]
          const { beta1, beta2, epsilon, weightDecay } = spec
          const correction1 = 1 / (1 - power(beta1, step))
          const correction2 = 1 / (1 - power(beta2, step))
          const scalars = { weight, rate, beta1, beta2, epsilon, weightDecay, correction1, correction2 }
          kernels.adam(at('parameters'), at('gradient'), first, second, count, scalars)
          flush(kernels, [first, second], count, step)
        },
      }
  }
}

/** Where a gradient has died, a running mean would stay in the subnormal floats, which are slow. */
function flush(kernels: Kernels, means: readonly number[], count: number, step: number): void {
  if (step % FLUSH_EVERY === 0) for (const mean of means) kernels.flush(mean, count)
}

/** base^exponent by squaring: unlike Math.pow the same bits on every machine, as replay needs. */
function power(base: number, exponent: number): number {
  let result = 1
  for (let square = base, left = exponent; left > 0; left = Math.floor(left / 2), square *= square) {
    if (left % 2 === 1) result *= square
  }
  return result
}
