/** What a run says of itself, to operators in full and to volunteers in short. */
import type { RunDetail } from '../../shared/api.ts'
import type { Progress } from '../../shared/protocol.ts'
import type { Run } from './run.ts'

/** How the run goes that a volunteer helps. */
export function progressOf(run: Run): Progress {
  const tested = run.history.series.test.at(-1)
  return {
    run: run.id,
    name: run.spec.name,
    state: run.state,
    epoch: run.history.epochs.progress,
    epochs: run.spec.stop.epochs,
    accuracy: tested?.accuracy ?? null,
    loss: run.history.series.recentLoss,
    volunteers: run.roster.crowd,
  }
}

export function detailOf(run: Run, now: number): RunDetail {
  const { counts, series, epochs } = run.history
  const tested = series.test.at(-1)
  const seconds = run.history.seconds(now)
  return {
    run: run.id,
    name: run.spec.name,
    state: counts.state,
    reason: counts.reason,
    stage: 'train',
    epoch: epochs.progress,
    epochs: run.spec.stop.epochs,
    testAccuracy: tested?.accuracy ?? null,
    testLoss: tested?.loss ?? null,
    trainLoss: series.recentLoss,
    versions: run.parameters.version,
    examples: counts.examples,
    updatesAccepted: counts.updates,
    updatesRefused: run.updatesRefused,
    meanStaleness: counts.updates === 0 ? 0 : counts.stalenessSum / counts.updates,
    bytesUp: counts.bytesUp,
    bytesDown: run.bytesDown,
    seconds,
    examplesPerSecond: seconds === 0 ? 0 : counts.examples / seconds,
    createdAt: new Date(run.createdAt).toISOString(),
    modelPath: `/api/runs/${run.id}/model.json`,
    parameters: run.parameters.size,
    volunteers: run.roster.details((volunteer) => run.holds(volunteer)),
    spec: run.spec,
  }
}
