/**
 * Downpour on parameters of its own, with no run around it: pushes that began from a version, and what they make of the
 * parameters. Also what such a test makes up: settings, asks, settled updates, vectors.
 */
import { Parameters, type ParametersOptions } from '../../coordinator/parameters/parameters.ts'
import { updateRule } from '../../coordinator/parameters/update-rule.ts'
import { Downpour } from '../../coordinator/strategies/downpour.ts'
import { type Epochs, lengthOf, type Stretch } from '../../coordinator/strategies/epochs.ts'
import type { Apply, Ask, Settled } from '../../coordinator/strategies/strategy.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { layout } from '../../shared/layout.ts'
import { Random } from '../../shared/random.ts'
import {
  type DownpourSpec,
  strategy as strategySchema,
  type UpdateRuleSpec,
  updateRule as updateRuleSchema,
} from '../../shared/strategy-spec.ts'

/** A downpour spec as the RunSpec has it, of what an operator wrote. */
export const downpourSpec = (written: object = {}): DownpourSpec =>
  strategySchema.parse({ name: 'downpour', ...written }) as DownpourSpec

export const settledOf = (
  lease: string,
  volunteer: string,
  stretches: Stretch[] = [{ epoch: 0, from: 0, to: 4 }],
): Settled => ({
  lease,
  volunteer,
  version: 0,
  staleness: 0,
  minibatches: 1,
  stretches,
  examples: lengthOf(stretches),
  lossSum: 1,
  payload: new Uint8Array(),
})

export const askOf = (epochs: Epochs, ask: Partial<Ask> = {}): Ask => ({
  volunteer: `v${ask.rank ?? 0}`,
  rank: 0,
  fitting: 1e9,
  epochs,
  out: [],
  idle: () => false,
  mayTake: () => true,
  ...ask,
})

/** Standard normal floats times `scale`; the same for the same path. */
export function noise(size: number, scale: number, ...path: number[]): Float32Array {
  const random = new Random(7, ...path)
  return Float32Array.from({ length: size }, (_, i) => scale * random.normal(i))
}

/** Parameters of one kernel. */
export function parametersOf(
  initial: Float32Array,
  rule = updateRuleOf(),
  options: ParametersOptions = {},
): Parameters {
  const kernel = { name: 'dense/kernel', shape: [initial.length, 1], init: { kind: 'zeros' } } as const
  return new Parameters(layout([kernel]), updateRule(rule), initial, options)
}

/** An update rule as the RunSpec has it; sgd where nothing else is written. */
const updateRuleOf = (written: object = {}): UpdateRuleSpec => updateRuleSchema.parse({ name: 'sgd', ...written })

interface BenchOptions extends ParametersOptions {
  /** Written settings of the strategy. */
  readonly strategy?: object
  /** Written settings of the update rule; sgd where absent. */
  readonly rule?: object
  readonly initial: Float32Array
  /** Where it goes on from. */
  readonly saved?: DownpourBench
}

export class DownpourBench {
  readonly parameters: Parameters
  readonly strategy: Downpour
  private readonly rate: number
  private pushes = 0

  constructor({ strategy, rule, initial, saved, ...options }: BenchOptions) {
    const spec = updateRuleOf(rule)
    this.parameters = parametersOf(initial, spec, options)
    this.rate = spec.rate
    const room = { rule: spec.name, codec: 'f32', parameters: this.parameters } as const
    this.strategy = new Downpour(downpourSpec(strategy), room, saved && JSON.parse(JSON.stringify(saved.strategy)))
    if (saved === undefined) return
    const vectors = saved.parameters.checkpoint(saved.strategy.vectors)
    this.parameters.restore(saved.parameters.version, vectors, this.strategy.vectors)
    this.pushes = saved.pushes
  }

  /** Folds in the sum of so many minibatches' gradients, computed at the newest version or `staleness` before it. */
  push(gradient: Float32Array, staleness = 0, minibatches = 1): Apply | null {
    const settled = settledOf(`l${this.pushes++}`, 'ann')
    const payload = encodeVector(codecs.f32, gradient)
    const version = this.parameters.version - staleness
    const apply = this.strategy.fold({ ...settled, payload, version, staleness, minibatches })
    this.apply(apply)
    return apply
  }

  flush(): Apply | null {
    const apply = this.strategy.conclude()
    this.apply(apply)
    return apply
  }

  get weights(): Float32Array {
    return this.parameters.snapshot()
  }

  private apply(apply: Apply | null): void {
    if (apply !== null) this.parameters.apply('f32', apply.parts, { rate: this.rate, epoch: 0 })
  }
}
