/**
 * Update rules: how a gradient changes the parameters. A rule is a kernel call over one range and the names of the
 * state vectors it keeps; it holds nothing itself, so it can be checkpointed, replayed and tested alone.
 */
import type { Kernels } from '../../shared/kernels/kernels.ts'
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
        step: (kernels, w, g, state, count, rate, weight) =>
          kernels.momentum(w, g, state.get('momentum')!, count, { weight, rate, momentum: spec.momentum }),
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
        step: (kernels, w, g, state, count, rate, weight, step) =>
          kernels.adam(w, g, state.get('first')!, state.get('second')!, count, {
            rate,
            beta1: spec.beta1,
            beta2: spec.beta2,
            epsilon: spec.epsilon,
            weightDecay: spec.weightDecay,
            correction1: 1 / (1 - power(spec.beta1, step)),
            correction2: 1 / (1 - power(spec.beta2, step)),
            weight,
          }),
      }
  }
}

/** base^exponent by squaring: unlike Math.pow the same bits on every machine, as replay needs. */
function power(base: number, exponent: number): number {
  let result = 1
  for (let square = base, left = exponent; left > 0; left = Math.floor(left / 2), square *= square) {
    if (left % 2 === 1) result *= square
  }
  return result
}
