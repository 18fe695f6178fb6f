/**
 * The examiner of a stage: when a version is tested, and what comes of it. While a test is under way it holds its
 * version, so that the trusted volunteers can fetch it.
 */
import { classifies } from '../../shared/models.ts'
import { OUTCOME_BYTES } from '../../shared/outcomes.ts'
import type { UpdateRequest } from '../../shared/protocol.ts'
import type { Stretch } from '../strategies/epochs.ts'
import { Evaluation, type Side } from './evaluation.ts'
import type { History, Said } from './history.ts'
import type { HeldLease, Leases, StartedLease } from './leases.ts'
import type { Stage } from './stage.ts'

export class Examiner {
  private readonly history: History
  private readonly leases: Leases
  private readonly stage: Stage
  private readonly evaluation: Evaluation
  /** Progress in units of evaluateEveryEpochs at the last evaluation asked for. */
  private asked = 0
  /** The version whose loss was found not to be finite. */
  private hopeless: number | null = null

  constructor(history: History, leases: Leases) {
    const { train, test } = history.dataset
    this.history = history
    this.leases = leases
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

  /** What is to be journalled of what a lease found: the whole when it was the last part. */
  add({ id, from, stretches }: StartedLease, update: UpdateRequest, payload: Uint8Array): Said | null {
    const { version, examples, lossSum, correct, measureSum = null } = update
    if (lossSum === null) return this.divergedAt(version)
    const outcomes = payload.length > 0 ? payload : null
    const side = from === 'test' ? 'test' : 'train'
    const found = { version, side, stretches, examples, lossSum, correct, measureSum, outcomes } as const
    const whole = this.evaluation.add(id, found)
    return whole && { kind: 'evaluated', data: whole.point, payload: whole.outcomes }
  }

  private divergedAt(version: number): Said | null {
    // A point that a search only tries may have no loss; it looks elsewhere.
    if (this.history.strategy.probes || this.history.cannotBecome('failed') !== null) return null
    const reason = `the model diverged: at version ${version} its loss on the test examples is not finite; lower the rate`
    return { kind: 'state', data: { state: 'failed', reason }, payload: null }
  }

  remove(lease: string): void {
    this.evaluation.remove(lease)
  }

  /** Nothing more is asked about this version: its loss is not finite. */
  giveUp(version: number): void {
    this.hopeless = version
    this.end()
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

  /** Where the bytes of the version under test are gone, the test begins anew with the newest one: true. */
  restart(): boolean {
    const { version } = this.evaluation
    if (version === null || this.stage.versions.bytes(version) !== null) return false
    this.end()
    return this.request()
  }

  private request(): boolean {
    const { seconds, examples } = this.history.counts
    const { version } = this.stage.parameters
    const { name: stage } = this.stage.plan
    const asked = this.evaluation.request({ version, stage, seconds, examples, epoch: this.stage.progress })
    if (asked) this.stage.versions.hold(version)
    return asked
  }

  /** The test is over; whatever of it is still out comes to nothing. */
  end(): void {
    const parts = [...this.leases.all()].filter(({ kind }) => kind === 'evaluate')
    for (const { id } of parts) this.leases.end(id, 'given-back')
    if (this.evaluation.version !== null) this.stage.versions.release(this.evaluation.version)
    this.evaluation.end()
  }
}
