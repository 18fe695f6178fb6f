/**
 * Update rules: how a gradient changes the parameters. A rule is a kernel call over one range and the names of the
 * state vectors it keeps; it holds nothing itself, so it can be checkpointed, replayed and tested alone.
 */
import { FLUSH_EVERY, type Kernels } from '../../shared/kernels/kernels.ts'
import type { UpdateRuleSpec } from '../../shared/run-spec.ts'

export interface UpdateRule {
  /** Vectors of the parameters' size that the rule keeps. */
  readonly state: readonly string[]
  /** What every element of them is at first. */
  readonly initialState: number
  /**
   * One step in place over `count` floats: the gradient is multiplied by `weight` first; `step` counts from 1.
   */
  step(
    kernels: Kernels,
    parameters: number,
    gradient: number,
    state: ReadonlyMap<string, number>,
    count: number,
    rate: number,
    weight: number,
    step: number,
  ): void
}

export function updateRule(spec: UpdateRuleSpec): UpdateRule {
  switch (spec.name) {
    case 'sgd':
      return {
        state: [],
        initialState: 0,
        step: (kernels, w, g, _state, count, rate, weight) => kernels.sgd(w, g, count, { weight, rate }),
      }
    case 'momentum':
      return {
        state: ['momentum'],
        initialState: 0,
        step(kernels, w, g, state, count, rate, weight, step) {
          const momentum = state.get('momentum')!
          kernels.momentum(w, g, momentum, count, { weight, rate, momentum: spec.momentum })
          flush(kernels, [momentum], count, step)
        },
      }
    case 'adagrad':
      return {
        state: ['squares'],
        initialState: spec.initial,
        step: (kernels, w, g, state, count, rate, weight) =>
          kernels.adagrad(w, g, state.get('squares')!, count, { weight, rate, epsilon: spec.epsilon }),
      }
    case 'adam':
      return {
        state: ['first', 'second'],
        initialState: 0,
        step(kernels, w, g, state, count, rate, weight, step) {
          const [first, second] = [state.get('first')!, state.get('second')!]
          const { beta1, beta2, epsilon, weightDecay } = spec
          const correction1 = 1 / (1 - power(beta1, step))
          const correction2 = 1 / (1 - power(beta2, step))
          const scalars = { weight, rate, beta1, beta2, epsilon, weightDecay, correction1, correction2 }
          kernels.adam(w, g, first, second, count, scalars)
          flush(kernels, [first, second], count, step)
        },
      }
  }
}

/** Where a gradient has died, a running mean would stay in the subnormal floats, which are forty times as slow. */
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
