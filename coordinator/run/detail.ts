/** What a run says of itself, to operators in full and to volunteers in short. */
import type { RunDetail } from '../../shared/api.ts'
import { classifies } from '../../shared/models.ts'
import type { Progress } from '../../shared/protocol.ts'
import { shareDone } from './progress.ts'
import type { Run } from './run.ts'

/** How the run goes that a volunteer helps. */
export function progressOf(run: Run): Progress {
  const tested = run.history.series.test.at(-1)
  return {
    run: run.id,
    name: run.spec.name,
    state: run.state,
    epoch: run.history.stage.progress,
    epochs: run.history.stage.plan.epochs,
    accuracy: classified(run) ? (tested?.accuracy ?? null) : null,
    loss: run.history.series.recentLoss,
    volunteers: run.roster.crowd,
  }
}

export function detailOf(run: Run, now: number): RunDetail {
  const { counts, series, stage, stages } = run.history
  const tested = series.test.at(-1)
  const seconds = run.history.seconds(now)
  return {
    run: run.id,
    name: run.spec.name,
    state: counts.state,
    reason: (counts.state === 'paused' ? run.lacking : null) ?? counts.reason,
    stage: stage.plan.name,
    stages: stages.map(({ name, epochs }) => ({ name, epochs })),
    epoch: stage.progress,
    epochs: stage.plan.epochs,
    progress: shareDone(run.history),
    testAccuracy: classified(run) ? (tested?.accuracy ?? null) : null,
    testLoss: tested?.loss ?? null,
    testMeasure: tested?.measure ?? null,
    trainLoss: series.recentLoss,
    versions: run.parameters.version,
    examples: counts.examples,
    updatesAccepted: counts.updates,
    updatesRefused: run.updatesRefused,
    meanStaleness: counts.updates === 0 ? 0 : counts.stalenessSum / counts.updates,
    bytesUp: counts.bytesUp,
    bytesDown: run.bytesDown,
    seconds,
    examplesPerSecond: series.recentRate(counts.examples, seconds),
    createdAt: new Date(run.createdAt).toISOString(),
    modelPath: `/api/runs/${run.id}/model.json`,
    parameters: run.parameters.size,
    volunteers: run.roster.details(),
    spec: run.spec,
  }
}

/** Whether the last test's accuracy says something: most RBMs, and an autoencoder, are tested but classify nothing. */
function classified({ history: { stage, series } }: Run): boolean {
  return classifies(stage.model.objective) && series.test.at(-1)?.stage === stage.plan.name
}
