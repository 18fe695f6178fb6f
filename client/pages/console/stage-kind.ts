/** What kind of learning a run's stage is, and so what it is measured by and how it is called. */
import type { RunDetail } from '../../../shared/api.ts'
import { endsInClasses } from '../../../shared/models.ts'
import { takesWholePasses } from '../../../shared/whole-passes.ts'

/** classify: accuracy · contrastive: an RBM's reconstruction error · reconstruct: an autoencoder's squared error */
type StageKind = 'classify' | 'contrastive' | 'reconstruct'

export function kindOf({ spec }: RunDetail, stage: string): StageKind {
  if (stage !== 'train') return 'contrastive'
  return spec.model.template === 'autoencoder' ? 'reconstruct' : 'classify'
}

/** Whether its tests take examples for classes: a classifier's, and those of an RBM that sees the labels. */
export const classifies = ({ spec, stages }: RunDetail, stage: string): boolean =>
  stage === stages.at(-1)?.name && endsInClasses(spec.model)

/** What trains it. */
export function trainerOf({ spec }: RunDetail, stage: string): Pick<RunDetail['spec'], 'strategy' | 'updateRule'> {
  return stage === 'train' || spec.pretrain === undefined ? spec : spec.pretrain
}

/** Whether its progress is counted in iterations, not in passes over the examples. */
export function iterates(run: RunDetail, stage: string): boolean {
  return takesWholePasses(trainerOf(run, stage).strategy)
}

/** RBM 2, Fine-tuning. */
export function stageTitle(stage: string): string {
  return stage === 'train' ? 'Fine-tuning' : stage.replace(/^rbm-/, 'RBM ')
}
