/**
 * The stages of a run: what follows what. A stage is one model trained by one strategy; a network that is pre-trained
 * has one stage for each RBM of its stack, from below, and then the one that fine-tunes it. A pure function of the
 * spec.
 */
import { layerEpochs, rbmLayers } from '../../shared/models.ts'
import type { PretrainSpec, RunSpec } from '../../shared/run-spec.ts'

export type StagePlan = Pick<PretrainSpec, 'strategy' | 'updateRule' | 'schedule' | 'codec' | 'evaluateEveryEpochs'> & {
  readonly name: string
  /** Of the stack, from 0; null where the whole network is trained. */
  readonly layer: number | null
  /** Passes over the training examples, or iterations. */
  readonly epochs: number
  /** Ends when the free-energy gap grew in so many tests in a row; 0 never. */
  readonly gapChecks: number
  readonly maxNorm?: number
}

export function stagesOf(spec: RunSpec): StagePlan[] {
  const { strategy, updateRule, schedule, codec, evaluateEveryEpochs, maxNorm, stop } = spec
  const whole: StagePlan = {
    ...{ name: 'train', layer: null, epochs: stop.epochs, gapChecks: 0 },
    ...{ strategy, updateRule, schedule, codec, evaluateEveryEpochs, maxNorm },
  }
  if (spec.pretrain === undefined) return [whole]
  const layers = layersOf(spec, spec.pretrain)
  return spec.model.template === 'rbm' ? layers : [...layers, whole]
}

function layersOf(spec: RunSpec, pretrain: PretrainSpec): StagePlan[] {
  const { strategy, updateRule, schedule, codec, evaluateEveryEpochs, gapChecks, gaussianRate } = pretrain
  const epochs = layerEpochs(spec)
  return rbmLayers(spec.model).map(({ hidden }, layer) => ({
    name: `rbm-${layer + 1}`,
    layer,
    epochs,
    gapChecks,
    updateRule: hidden === 'gaussian' ? { ...updateRule, rate: gaussianRate } : updateRule,
    ...{ strategy, schedule, codec, evaluateEveryEpochs },
  }))
}
