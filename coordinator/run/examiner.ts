/**
 * The examiner of a stage: when a version is tested, and what comes of it. While a test is under way it holds its
 * version, so that the trusted volunteers can fetch it.
 */
import { classifies } from '../../shared/models.ts'
import { OUTCOME_BYTES } from '../../shared/outcomes.ts'
import type { UpdateRequest } from '../../shared/protocol.ts'
import type { Dataset } from '../datasets/dataset.ts'
import type { Stretch } from '../strategies/epochs.ts'
import { Evaluation, type Side, type Whole } from './evaluation.ts'
import type { History } from './history.ts'
import type { HeldLease, StartedLease } from './leases.ts'
import type { Stage } from './stage.ts'

export class Examiner {
  private readonly history: History
  private readonly stage: Stage
  private readonly evaluation: Evaluation
  /** Progress in units of evaluateEveryEpochs at the last evaluation asked for. */
  private asked = 0
  /** The version whose loss was found not to be finite. */
  private hopeless: number | null = null

  constructor(history: History, { train, test }: Dataset) {
    this.history = history
    this.stage = history.stage
    const compares = this.stage.model.objective.kind === 'contrastive'
    this.evaluation = new Evaluation({
      test: test.examples,
      train: compares ? Math.min(test.examples, train.examples) : 0,
    })
  }

  belongsTo(stage: Stage): boolean {
    return this.stage === stage
  }

  /** The version under test. */
  get version(): number | null {
    return this.evaluation.version
  }

  /** There is a part of a test for a trusted volunteer. */
  get waiting(): boolean {
    return this.evaluation.waiting
  }

  /** A part of at most so many examples. */
  take(examples: number): { side: Side; stretches: Stretch[] } | null {
    return this.evaluation.take(examples)
  }

  giveBack(lease: HeldLease): void {
    const { version } = this.evaluation
    if (version === null || lease.from === 'shuffled') return
    this.evaluation.giveBack(lease.state === 'started' ? lease.binding.version : version, lease.from, lease.stretches)
  }

  /**
   * Bytes that the update of an evaluation of so many examples brings; those of training examples are not looked at.
   */
  outcomeBytes({ examples }: HeldLease): number {
    return classifies(this.stage.model.objective) ? OUTCOME_BYTES * examples : 0
  }

  /** What a lease found; the whole when it was the last part. */
  add({ id, from, stretches }: StartedLease, update: UpdateRequest, payload: Uint8Array): Whole | null {
    const { version, examples, correct, measureSum = null } = update
    const outcomes = payload.length > 0 ? payload : null
    const side = from === 'test' ? 'test' : 'train'
    const found = { version, side, stretches, examples, correct, measureSum, outcomes } as const
    return this.evaluation.add(id, { ...found, lossSum: update.lossSum! })
  }

  remove(lease: string): void {
    this.evaluation.remove(lease)
  }

  /** Nothing more is asked about this version: its loss is not finite. */
  giveUp(version: number): void {
    this.hopeless = version
  }

  /** Asks for an evaluation when the spec says so, and of the last version when training is complete. */
  plan(): void {
    const { history, stage } = this
    const { version } = stage.parameters
    if (this.hopeless === version || history.dataset.absent !== null) return
    if (stage.trained || history.state === 'finished') {
      const lastTested = history.series.test.at(-1)?.version
      // Of a run that was ended before anything came of it there is nothing to test.
      if (lastTested !== version && (version > 0 || stage.trained)) this.request()
      return
    }
    const due = this.unitsAt(stage.progress)
    const last = history.series.test.at(-1)
    // After a restart it is the journal that says what was tested.
    const before = Math.max(this.asked, last?.stage === stage.plan.name ? this.unitsAt(last.epoch) : 0)
    if (history.state === 'running' && stage.strategy.quiescent && due > before && this.request()) this.asked = due
  }

  private unitsAt(progress: number): number {
    const every = this.stage.plan.evaluateEveryEpochs
    return every === 0 ? 0 : Math.floor(progress / every + 1e-9)
  }

  /** The bytes of the version under test are gone. */
  get lost(): boolean {
    const { version } = this.evaluation
    return version !== null && this.stage.versions.bytes(version) === null
  }

  request(): boolean {
    const { seconds, examples } = this.history.counts
    const { version } = this.stage.parameters
    const { name: stage } = this.stage.plan
    const asked = this.evaluation.request({ version, stage, seconds, examples, epoch: this.stage.progress })
    if (asked) this.stage.versions.hold(version)
    return asked
  }

  end(): void {
    if (this.evaluation.version !== null) this.stage.versions.release(this.evaluation.version)
    this.evaluation.end()
  }
}
