/** What must hold of a run that came to its end: every stage done and tested, or failed for a reason that is true. */
import { History } from '../../coordinator/run/history.ts'
import type { Run } from '../../coordinator/run/run.ts'
import { codecs, decodeVector } from '../../shared/codec.ts'
import { rbmLayers } from '../../shared/models.ts'
import { hasOneOutcome, trainedAlone } from './alone.ts'
import type { Disk } from './disk.ts'
import { emptyDataset } from './examples.ts'
import { LOST, measureAt, outcomesOf } from './honest.ts'
import { same, sameState } from './same.ts'
import type { Shadow } from './shadow.ts'
import { must } from './violation.ts'

const LOSS_MAX = 1e41
/** The newest updates, of which several must be false where they end a run that goes well. */
const RECENT = 32
const FALSE_LEAST = 4
/** A true loss that has grown this many times is a reason to end it. */
const GROWN = 10

/** What honest volunteers know, beside the journal. */
export interface Truth {
  /** What was computed on a lease, if anything was. */
  lossSumOf(lease: string): number | null | undefined
  /** Somebody trusted computed what cannot be believed. */
  readonly hopeless: boolean
  /** A part of a test of a classifier was accepted without its outcomes. */
  readonly withoutOutcomes: boolean
}

export function checkEnding(run: Run, shadow: Shadow, truth: Truth, disk: Disk): void {
  same('J2', run.history, shadow.history, `run ${run.id}`)
  sameState('J2', run.history, shadow.history, `run ${run.id}`)
  must('J7', run.history.resting === run.over, `run ${run.id} is over and keeps what only training needs`)
  if (run.state === 'finished') lastCheckpoint(run, shadow, disk)
  if (run.spec.journal === 'everything') freshFold(run, disk)
  if (run.state === 'finished') finished(run, shadow)
  else failed(run, shadow, truth)
  curves(run, truth)
}

/** What a finished run was trained with is in its last checkpoint. */
function lastCheckpoint(run: Run, shadow: Shadow, disk: Disk): void {
  const checkpoint = disk.loadCheckpoint(run.id) ?? undefined
  const whole = new History(run.spec, emptyDataset(run.spec.dataset), checkpoint)
  same('J2', whole, shadow.history, `the last checkpoint of run ${run.id}`)
  sameState('J2', whole, shadow.history, `the last checkpoint of run ${run.id}`)
}

export function freshFold(run: Run, disk: Disk): void {
  const fresh = new History(run.spec, emptyDataset(run.spec.dataset))
  for (const entry of disk.read(run.id, 0)) fresh.fold(entry)
  same('J2', run.history, fresh, `run ${run.id} against a fold from entry 0`)
}

function finished(run: Run, shadow: Shadow): void {
  const { series, stage, stages, parameters, epochs, strategy } = run.history
  const tested = series.test.at(-1)
  const { version } = parameters
  must('tested', version === 0 || tested?.version === version, `run ${run.id} ended with its model not tested`)
  const { accuracy = 1 } = run.spec.stop
  const reached = stage.plan.layer === null && (tested?.accuracy ?? 0) >= accuracy
  if (shadow.stopped || reached) return
  must('tested', tested !== undefined, `run ${run.id} ended without a test`)
  must('stages', stage.index === stages.length - 1, `run ${run.id} finished in ${stage.plan.name}`)
  if (stage.plan.gapChecks > 0) return
  must('stages', strategy.quiescent, `run ${run.id} finished, and what was accepted is not in its model`)
  must('E1', stage.trained, `run ${run.id} finished and is not trained`)
  const { iterations } = strategy
  if (iterations === undefined) must('E1', shadow.positions === epochs.examples * epochs.planned, 'examples lack')
  else must('E1', iterations <= stage.plan.epochs, `${iterations} iterations, ${stage.plan.epochs} were planned`)
  if (hasOneOutcome(run.spec)) asAlone(run, shadow)
}

function asAlone(run: Run, shadow: Shadow): void {
  const said = (...where: number[]) => shadow.losses.get(where.join('/')) ?? null
  const alone = trainedAlone(run.spec, said)
  const { version } = alone.parameters
  must('Y1', version === run.history.parameters.version, `${run.id}: one volunteer alone comes to version ${version}`)
  const expected = alone.parameters.snapshot()
  run.history.parameters.snapshot().forEach((value, i) => {
    const what = `${run.id}: parameter ${i} is ${value}, one volunteer alone has ${expected[i]}`
    must('Y1', Object.is(value, expected[i]), what)
  })
  const [left, right] = [run.history, alone].map(({ strategy }) => JSON.stringify(strategy.history ?? null))
  must('Y1', left === right, `${run.id}: its iterations are ${left}, of one volunteer alone ${right}`)
}

/** Nobody but the model itself, or many falsehoods together, makes a run fail. */
function failed(run: Run, { updates, versions, history }: Shadow, truth: Truth): void {
  const reason = run.history.reason ?? ''
  if (reason.includes('the coordinator itself')) {
    return must('T4', truth.hopeless, `${run.id} failed, and all that trusted volunteers computed is sound: ${reason}`)
  }
  const version = /at version (\d+) its loss on the test/.exec(reason)
  if (version !== null) {
    const { stage } = history
    const values = decodeVector(codecs[stage.plan.codec.down], versions[Number(version[1])], stage.model.layout.size)
    const lost = !values.every((value) => Math.abs(value) <= LOST)
    return must('T4', lost, `${run.id} failed, and version ${version[1]} is sound`)
  }
  must('T4', reason.startsWith('training diverged: the loss'), `${run.id} failed for no reason: ${reason}`)
  const ofStage = updates.filter(({ stage, examples }) => stage === history.stage.index && examples > 0)
  const lies = ofStage.slice(-RECENT).filter(({ lease, lossSum }) => truth.lossSumOf(lease) !== lossSum)
  const losses = ofStage.map(({ lease, examples }) => Math.abs(truth.lossSumOf(lease) ?? 0) / examples)
  const grown = Math.max(...losses.slice(-RECENT)) > GROWN * Math.min(...losses.slice(0, RECENT))
  const what = `${run.id} failed, of the last ${RECENT} updates ${lies.length} are false: ${reason}`
  must('T4', grown || lies.length >= FALSE_LEAST, what)
}

/** Whether a test of the stage takes the examples for classes: of a classifier, and of an RBM that sees the labels. */
function classified({ spec, stages }: History, stage: string): boolean {
  const { layer } = stages.find(({ name }) => name === stage)!
  return layer === null ? spec.model.template !== 'autoencoder' : rbmLayers(spec.model)[layer].labels
}

function curves({ id, history }: Run, { withoutOutcomes }: Truth): void {
  const { series, dataset, stages, outcomes } = history
  for (const { loss } of series.train) must('T2', Math.abs(loss) < LOSS_MAX, `a loss of ${loss} was believed`)
  const { examples } = dataset.test
  for (const point of series.test) {
    const plan = stages.find(({ name }) => name === point.stage)
    const template = history.spec.model.template
    const rbm = plan?.layer !== null
    const kind = rbm ? 'contrastive' : template === 'autoencoder' ? 'reconstruct' : 'classify'
    const right =
      point.loss === 1 &&
      point.accuracy === (classified(history, point.stage) ? Math.ceil(examples / 2) / examples : 0) &&
      point.measure === (measureAt(kind, point.version, true) ?? null) &&
      point.trainMeasure === (kind === 'contrastive' ? measureAt(kind, point.version, false) : null)
    must('evaluation', right, `${id}: a test is ${JSON.stringify(point)}`)
  }
  if (series.test.length === 0) return
  if (!classified(history, series.test.at(-1)!.stage)) {
    return must('evaluation', outcomes === null, `${id}: there are outcomes of no classifier`)
  }
  must('evaluation', outcomes !== null || withoutOutcomes, `${id}: the outcomes of the last test are gone`)
  if (outcomes === null) return
  const expected = outcomesOf(Array.from({ length: examples }, (_, i) => i))
  const right = outcomes.length === expected.length && expected.every((byte, i) => byte === outcomes[i])
  must('evaluation', right, `${id}: the outcomes of the last test are not those of the examples`)
}
