/**
 * What a run has come to: the fold over its journal. Parameters, epochs, strategy, counters, curves and state are a
 * deterministic function of the entries folded in, from the beginning or from a checkpoint on; nothing here depends
 * on who is connected, on time beside that in the entries, or on anything that is not journalled.
 */
import type { RunState, TestPoint, TrainPoint } from '../../shared/api.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel, type Model } from '../../shared/models.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Dataset } from '../datasets/dataset.ts'
import type { Checkpoint, Entry } from '../journal/journal.ts'
import { Parameters } from '../parameters/parameters.ts'
import { updateRule } from '../parameters/update-rule.ts'
import { Versions } from '../parameters/versions.ts'
import { Epochs, type EpochsState, type Stretch } from '../strategies/epochs.ts'
import { openStrategy } from '../strategies/strategies.ts'
import type { Strategy } from '../strategies/strategy.ts'
import { rateAt } from './schedule.ts'
import { Series, type SeriesState } from './series.ts'

/** Data of an `update` entry; its payload is the encoded vector. */
export interface UpdateData {
  lease: string
  volunteer: string
  /** Base version. */
  version: number
  minibatches: number
  examples: number
  lossSum: number
  correct: number
  computeMs: number
  stretches: Stretch[]
  /** The crowd at that time, for the curves. */
  volunteers: number
}

/** Data of a `state` entry. */
export interface StateData {
  state: RunState
  reason: string | null
}

/** A checkpoint is due after so many bytes of updates in any case: they are what a restart has to fold, and the disk to hold. */
const CHECKPOINT_BYTES = 256 * 1024 * 1024

/** Which state may follow which. */
export const TRANSITIONS: Record<RunState, RunState[]> = {
  draft: ['running', 'finished'],
  running: ['paused', 'finished', 'failed'],
  paused: ['running', 'finished', 'failed'],
  finished: [],
  failed: [],
}

interface Counters {
  state: RunState
  reason: string | null
  updates: number
  examples: number
  stalenessSum: number
  bytesUp: number
  /** Time spent running, between journal entries. */
  seconds: number
}

interface Saved {
  counters: Counters
  epochs: EpochsState
  strategy: unknown
  series: SeriesState
  version: number
  runningSince: number | null
}

/** What an entry added to the curves. */
export interface Points {
  readonly train: TrainPoint | null
  readonly test: TestPoint | null
}

export class History {
  readonly spec: RunSpec
  readonly model: Model
  readonly parameters: Parameters
  readonly versions: Versions
  readonly epochs: Epochs
  readonly strategy: Strategy
  readonly series: Series
  private readonly counters: Counters
  /** The newest entry folded in, and the updates since the last checkpoint. */
  private folded = 0
  private sinceCheckpoint = 0
  private bytesSinceCheckpoint = 0
  /**
   * The server's rate for the next step, set with every version: what was counted since then (portions of a batch)
   * does not move it, so a step does not depend on the order in which they came.
   */
  rate: number
  /** When the run's clock last moved; null while it stands. */
  private runningSince: number | null = null

  constructor(spec: RunSpec, dataset: Dataset, checkpoint?: Checkpoint) {
    const saved = checkpoint?.state as Saved | undefined
    this.spec = spec
    this.model = buildModel(spec.model, dataset.inputShape, dataset.classes)
    const { layout } = this.model
    this.parameters = new Parameters(layout, updateRule(spec.updateRule), initialParameters(layout, spec.seed))
    if (checkpoint !== undefined) this.parameters.restore(saved!.version, checkpoint.vectors)
    this.versions = new Versions(this.parameters, spec.codec.down)
    this.epochs = new Epochs(dataset.train.examples, spec.stop.epochs, saved?.epochs)
    this.strategy = openStrategy(spec, dataset.train.examples, saved?.strategy)
    this.series = new Series(saved?.series)
    this.counters = saved?.counters ?? {
      state: 'draft',
      reason: null,
      updates: 0,
      examples: 0,
      stalenessSum: 0,
      bytesUp: 0,
      seconds: 0,
    }
    this.rate = this.scheduledRate()
    this.folded = checkpoint?.seq ?? 0
    this.runningSince = saved?.runningSince ?? null
  }

  get state(): RunState {
    return this.counters.state
  }

  get reason(): string | null {
    return this.counters.reason
  }

  get counts(): Readonly<Counters> {
    return this.counters
  }

  /** Every planned example is counted. */
  get trained(): boolean {
    return this.epochs.finished
  }

  /** The server's rate at the examples counted so far. */
  private scheduledRate(): number {
    return rateAt(this.spec.schedule, this.spec.updateRule.rate, this.epochs.progress / this.spec.stop.epochs)
  }

  /** Time spent running up to now, seconds. */
  seconds(now: number): number {
    const since = this.runningSince === null ? 0 : Math.max(0, now - this.runningSince) / 1000
    return this.counters.seconds + since
  }

  /** Folds one journalled entry in: the same live and on recovery. */
  fold(entry: Entry): Points {
    this.tick(entry.at, entry.kind === 'recovered')
    this.folded = entry.seq
    switch (entry.kind) {
      case 'update':
        return { train: this.foldUpdate(entry.data as UpdateData, entry.payload), test: null }
      case 'evaluated':
        return { train: null, test: this.foldEvaluated(entry.data as TestPoint) }
      case 'state': {
        const { state, reason } = entry.data as StateData
        // It was allowed when it was asked for; what was journalled since may have finished the run.
        if (TRANSITIONS[this.state].includes(state)) this.enter(state, reason, entry.at)
        this.finishIfTested()
        break
      }
    }
    return { train: null, test: null }
  }

  private foldUpdate(data: UpdateData, payload: Uint8Array | null): TrainPoint | null {
    if (payload === null) throw new Error(`invariant: the update of lease ${data.lease} has no payload to fold`)
    const { counters } = this
    const staleness = this.parameters.version - data.version
    this.epochs.settle(data.stretches)
    const apply = this.strategy.fold({ ...data, payload })
    if (apply !== null) {
      this.versions.beforeStep()
      this.parameters.apply(this.spec.codec.up, apply.parts, this.rate)
      this.rate = this.scheduledRate()
    }
    this.sinceCheckpoint++
    this.bytesSinceCheckpoint += payload.length
    counters.updates++
    counters.examples += data.examples
    counters.stalenessSum += staleness
    counters.bytesUp += payload.length
    return this.series.observe({
      ...data,
      seconds: counters.seconds,
      examplesSoFar: counters.examples,
      epoch: this.epochs.progress,
      staleness,
    })
  }

  /** The run is finished by the test of its last version, or by one that reaches the accuracy it was to reach. */
  private foldEvaluated(point: TestPoint): TestPoint {
    this.series.evaluated(point)
    const { accuracy } = this.spec.stop
    const reached = accuracy !== undefined && point.accuracy >= accuracy
    if (this.state === 'running' && reached) this.enter('finished', null, 0)
    this.finishIfTested()
    return point
  }

  /** Trained, and its last version tested: by this test, or while it was paused. */
  private finishIfTested(): void {
    const tested = this.series.test.at(-1)?.version === this.parameters.version
    if (this.state === 'running' && this.trained && tested) this.enter('finished', null, 0)
  }

  private enter(state: RunState, reason: string | null, at: number): void {
    this.counters.state = state
    this.counters.reason = reason
    this.runningSince = state === 'running' ? at : null
  }

  /** Moves the run's clock, which counts the time spent running; the time between a crash and recovery is not. */
  private tick(at: number, afterGap: boolean): void {
    if (this.state !== 'running') return
    if (this.runningSince !== null && !afterGap) this.counters.seconds += Math.max(0, at - this.runningSince) / 1000
    this.runningSince = at
  }

  get checkpointDue(): boolean {
    const due = this.sinceCheckpoint >= this.spec.checkpointEvery || this.bytesSinceCheckpoint >= CHECKPOINT_BYTES
    return due && this.strategy.quiescent
  }

  /** The history as it stands, to be written before anything else is folded in; null in the middle of a batch. */
  checkpoint(run: string): Checkpoint | null {
    if (!this.strategy.quiescent) return null
    this.sinceCheckpoint = 0
    this.bytesSinceCheckpoint = 0
    const { counters, epochs, strategy, series, runningSince } = this
    const { version } = this.parameters
    // Written as JSON at once: what goes on changing is not kept.
    const state = JSON.parse(JSON.stringify({ counters, epochs, strategy, series, version, runningSince }))
    return { run, seq: this.folded, state, vectors: this.parameters.vectors() }
  }
}
