/**
 * One stage of a run as it stands: its model, parameters, epochs and strategy. Like the history it belongs to it is a
 * fold: what it comes to is a function of the plan, its first parameters and the updates folded in.
 */
import { initialParameters } from '../../shared/layout.ts'
import { buildModel, buildRbm, type Model } from '../../shared/models.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { lowerOf, unrolled } from '../../shared/stack.ts'
import { takesWholePasses } from '../../shared/whole-passes.ts'
import type { Dataset } from '../datasets/dataset.ts'
import type { CheckpointVector } from '../journal/journal.ts'
import { Parameters } from '../parameters/parameters.ts'
import { updateRule } from '../parameters/update-rule.ts'
import { Versions } from '../parameters/versions.ts'
import { Epochs, type EpochsState } from '../strategies/epochs.ts'
import { openStrategy } from '../strategies/strategies.ts'
import type { Apply, Settled, Strategy } from '../strategies/strategy.ts'
import { rateAt } from './schedule.ts'
import { sampled } from './shards.ts'
import type { StagePlan } from './stages.ts'

/** Passes of a stage that iterates: however many its searches need, they end by themselves. */
const PASSES_MAX = 1e9

export interface StageState {
  epochs: EpochsState
  strategy: unknown
  /** The version that its first parameters were, and the newest. */
  first: number
  version: number
}

/** What a stage begins with: the trained RBMs below it, and the version that its first parameters are. */
interface Beginning {
  readonly stack: readonly Float32Array[]
  readonly version: number
}

export class Stage {
  readonly index: number
  readonly plan: StagePlan
  readonly model: Model
  readonly parameters: Parameters
  readonly versions: Versions
  readonly epochs: Epochs
  readonly strategy: Strategy
  /**
   * The server's rate, and the epoch, of the next step, set with every version: what was counted since then (portions
   * of a batch) does not move them, so a step does not depend on the order in which they came.
   */
  private scalars: { rate: number; epoch: number }

  constructor(
    spec: RunSpec,
    plan: StagePlan,
    index: number,
    dataset: Dataset,
    { stack, version }: Beginning,
    saved?: { readonly state: StageState; readonly vectors: readonly CheckpointVector[] },
  ) {
    this.index = index
    this.plan = plan
    this.model = modelOf(spec, plan, dataset, stack)
    const rule = updateRule(plan.updateRule)
    this.parameters = new Parameters(
      this.model.layout,
      rule,
      firstParameters(spec, this.model, plan, index, dataset, stack),
      {
        weightCost: 'weightCost' in plan.updateRule ? plan.updateRule.weightCost : 0,
        maxNorm: plan.maxNorm,
        version: saved?.state.first ?? version,
      },
    )
    const examples = dataset.train.examples
    const iterates = takesWholePasses(plan.strategy)
    this.epochs = new Epochs(examples, iterates ? PASSES_MAX : plan.epochs, saved?.state.epochs)
    const room = {
      examples,
      rule: plan.updateRule.name,
      codec: plan.codec.up,
      seed: spec.seed,
      sampled: (pass: number, fraction: number, from: number, to: number) =>
        sampled(dataset.train, spec.seed, pass, fraction, { from, to }),
      iterations: plan.epochs,
      parameters: this.parameters,
    }
    this.strategy = openStrategy(plan.strategy, room, saved?.state.strategy)
    if (saved !== undefined) {
      this.parameters.restore(saved.state.version, saved.vectors, this.strategy.vectors)
    }
    this.versions = new Versions(this.parameters, plan.codec.down)
    this.parameters.beforeChange = () => this.versions.beforeStep()
    this.scalars = this.scheduled()
  }

  /** Every planned example is counted, or the strategy has come to its end. */
  get trained(): boolean {
    return this.epochs.finished || this.strategy.ended !== null
  }

  /** Passes over the examples so far, or iterations; with fraction. */
  get progress(): number {
    return this.strategy.iterations ?? this.epochs.progress
  }

  /** The server's rate for the next step. */
  get rate(): number {
    return this.scalars.rate
  }

  /** Folds an accepted update in. */
  fold(settled: Settled): void {
    this.epochs.settle(settled.stretches)
    this.step(this.strategy.fold(settled))
    if (this.epochs.finished) this.conclude()
  }

  /**
   * Nothing more will be folded in: what a buffer still holds belongs to the model, what a search only tries does not.
   */
  conclude(): void {
    this.step(this.strategy.conclude?.() ?? null)
  }

  private step(brought: Apply | 'published' | null): void {
    if (brought === null) return
    if (brought !== 'published') this.parameters.apply(this.plan.codec.up, brought.parts, this.scalars)
    this.scalars = this.scheduled()
  }

  /** The run is over, maybe in the middle of a batch: what is in of it makes no step. */
  abandon(): void {
    this.strategy.abandon?.()
    this.scalars = this.scheduled()
  }

  /** Nothing will be folded in or handed out any more: what only training needs is given back. */
  rest(): void {
    this.strategy.abandon?.()
    this.parameters.rest()
    this.versions.clear()
  }

  toJSON(): StageState {
    return {
      epochs: this.epochs.toJSON(),
      strategy: this.strategy.toJSON(),
      first: this.parameters.first,
      version: this.parameters.version,
    }
  }

  /** Views of what a checkpoint must hold beside the state. */
  vectors(): CheckpointVector[] {
    return this.parameters.checkpoint(this.strategy.vectors)
  }

  private scheduled(): { rate: number; epoch: number } {
    const epoch = this.epochs.progress
    const { schedule, updateRule, epochs } = this.plan
    return { rate: rateAt(schedule, updateRule.rate, epoch / epochs), epoch }
  }
}

function modelOf(spec: RunSpec, { layer }: StagePlan, dataset: Dataset, stack: readonly Float32Array[]): Model {
  if (layer === null) return buildModel(spec.model, dataset, spec.augment ?? null)
  return buildRbm(spec.model, layer, dataset, lowerOf(spec.model, dataset, stack), spec.pretrain!.contrastive)
}

function firstParameters(
  spec: RunSpec,
  { layout }: Model,
  { layer }: StagePlan,
  index: number,
  dataset: Dataset,
  stack: readonly Float32Array[],
): Float32Array {
  // Stages draw from seeds of their own: two layers of one shape must not begin alike.
  const initial = initialParameters(layout, spec.seed + index)
  return layer === null && stack.length > 0 ? unrolled(spec.model, dataset, stack, initial) : initial
}
