/**
 * A run as its data folder tells it, once its coordinator is gone: every accepted update with its stage, the tests, and
 * what the fold came to. Everything that a row reports is read from here, so nothing has to be noted down meanwhile.
 */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Dataset } from '../../../coordinator/datasets/dataset.ts'
import { openDataset } from '../../../coordinator/datasets/datasets.ts'
import { openSqliteJournal } from '../../../coordinator/journal/sqlite-journal.ts'
import { History, type UpdateData } from '../../../coordinator/run/history.ts'
import { type StagePlan, stagesOf } from '../../../coordinator/run/stages.ts'
import type { IterationPoint, TestPoint } from '../../../shared/api.ts'
import type { Model } from '../../../shared/models.ts'
import type { RunSpec } from '../../../shared/run-spec.ts'
import type { Stack } from '../../../shared/stack.ts'
import type { Point } from './chart.ts'

export interface Update extends Omit<UpdateData, 'lossSum' | 'stretches'> {
  /** When it was accepted, milliseconds. */
  readonly at: number
  readonly lossSum: number
  /** Index of its stage, and the examples of that stage that were counted with and before it. */
  readonly stage: number
  readonly counted: number
}

export interface TrainedRun {
  readonly spec: RunSpec
  readonly stages: readonly StagePlan[]
  readonly trainExamples: number
  readonly updates: readonly Update[]
  readonly tests: readonly TestPoint[]
  readonly iterations: readonly IterationPoint[]
  readonly examples: number
  readonly meanStaleness: number
  readonly bytesUp: number
  readonly seconds: number
  readonly dataset: Dataset
  /** What the last stage came to: its model and parameters, and the RBMs below it. */
  readonly model: Model
  readonly parameters: Float32Array
  readonly stack: Stack
}

/** The finished run of this spec that the folder holds. Throws where there is none. */
export function readTrainedRun(folder: string, spec: RunSpec): TrainedRun {
  const journal = openSqliteJournal(join(folder, 'journal.sqlite'))
  try {
    for (const id of journal.runs()) {
      const checkpoint = journal.loadCheckpoint(id)
      const [created] = journal.read(id, 0)
      if (!isDeepStrictEqual((created.data as { spec: RunSpec }).spec, spec)) continue
      const history = new History(spec, openDataset(spec.dataset), checkpoint ?? undefined)
      for (const entry of journal.read(id, checkpoint?.seq ?? 0)) history.fold(entry)
      if (history.state !== 'finished') continue
      const trainExamples = history.dataset.train.examples
      const { examples, updates, stalenessSum, bytesUp, seconds } = history.counts
      return {
        spec,
        stages: stagesOf(spec),
        trainExamples,
        updates: [...staged(journal.read(id, 0), stagesOf(spec), trainExamples)],
        tests: history.series.test,
        iterations: history.strategy.history ?? [],
        ...{ examples, bytesUp, seconds, meanStaleness: stalenessSum / Math.max(1, updates) },
        ...{ dataset: history.dataset, model: history.model, stack: history.stack },
        parameters: history.parameters.snapshot(),
      }
    }
  } finally {
    journal.close()
  }
  throw new Error(`${folder} holds no finished run of this spec`)
}

/** The updates with the stages they belong to: a stage ends with its planned examples. */
function* staged(
  entries: Iterable<{ kind: string; at: number; data: unknown }>,
  stages: readonly StagePlan[],
  examplesPerEpoch: number,
): Generator<Update> {
  let stage = 0
  let counted = 0
  for (const { kind, at, data } of entries) {
    if (kind !== 'update') continue
    const { stretches: _, ...update } = data as UpdateData
    if (stage + 1 < stages.length && counted >= stages[stage].epochs * examplesPerEpoch) {
      stage++
      counted = 0
    }
    counted += update.examples
    yield { ...update, at, stage, counted, lossSum: update.lossSum ?? Number.POSITIVE_INFINITY }
  }
}

/** The last test: of the newest version, since a run ends with it. */
export function lastTest({ tests }: TrainedRun): TestPoint {
  return tests[tests.length - 1]
}

/** Test error at the last iteration, per cent. */
export const testError = (run: TrainedRun): number => 100 * (1 - lastTest(run).accuracy)

/** Mean loss, or error in per cent, of a stage's training examples against its epochs, `each` points an epoch. */
export function trainingCurve(
  { updates, trainExamples }: TrainedRun,
  stage: number,
  what: 'loss' | 'error',
  each: number,
): Point[] {
  const bins = new Map<number, { examples: number; sum: number }>()
  for (const { stage: of, counted, examples, lossSum, correct } of updates) {
    if (of !== stage) continue
    const bin = Math.floor((each * (counted - examples)) / trainExamples)
    const { examples: before, sum } = bins.get(bin) ?? { examples: 0, sum: 0 }
    const more = what === 'loss' ? lossSum : 100 * (examples - correct)
    bins.set(bin, { examples: before + examples, sum: sum + more })
  }
  return [...bins].map(([bin, { examples, sum }]) => [(bin + 1) / each, sum / examples])
}

/** Index of the stage that trains the whole network. */
export const lastStage = ({ stages }: TrainedRun): number => stages.length - 1

/** Share of the volunteers' time, from the first update to the last, that they spent computing. */
export function computingShare(updates: readonly Update[]): number {
  const crowd = new Set(updates.map(({ volunteer }) => volunteer)).size
  const first = updates[0].at
  const ms = updates[updates.length - 1].at - first
  // What was computed before the first one came in is not counted.
  const computing = updates.reduce((sum, { computeMs, at }) => sum + Math.min(computeMs, at - first), 0)
  return computing / (crowd * ms)
}
