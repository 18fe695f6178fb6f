/**
 * How far a run is: its stages weighed by the arithmetic that is planned in each, since an epoch of one is not one of
 * another.
 */
import { rbmLayers } from '../../shared/models.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { elementsOf } from '../../shared/shape.ts'
import type { History } from './history.ts'
import type { Stage } from './stage.ts'
import type { StagePlan } from './stages.ts'

/** Where a run stands. */
type Standing = Pick<History, 'spec' | 'stages' | 'dataset'> & { stage: Pick<Stage, 'index' | 'plan' | 'progress'> }

/** 0..1. A stage that ended early counts as a whole one. */
export function shareDone({ spec, stages, stage, dataset }: Standing): number {
  const elements = elementsOf(dataset.inputShape)
  const planned = stages.map((plan) => plan.epochs * workOf(spec, plan, elements))
  const before = planned.slice(0, stage.index).reduce((sum, work) => sum + work, 0)
  const all = planned.slice(stage.index).reduce((sum, work) => sum + work, before)
  return (before + planned[stage.index] * Math.min(1, stage.progress / stage.plan.epochs)) / all
}

/**
 * Multiplications of one example, about; of interest only where stages differ, and then all layers are dense. Training
 * a network passes three times over its weights (forward, and twice back); CD-k once over those below, and over its own
 * up, k times down and up, and twice for the statistics.
 */
function workOf({ model, pretrain }: RunSpec, { layer }: StagePlan, elements: number): number {
  const units = rbmLayers(model).map((rbm) => rbm.units)
  const weights = units.map((width, i) => width * (i === 0 ? elements : units[i - 1]))
  const below = (count: number) => weights.slice(0, count).reduce((sum, size) => sum + size, 0)
  if (layer === null) return 3 * Math.max(1, below(weights.length)) * (model.template === 'autoencoder' ? 2 : 1)
  return below(layer) + weights[layer] * (3 + 2 * (pretrain?.contrastive.steps ?? 1))
}
