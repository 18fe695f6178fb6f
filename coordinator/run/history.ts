/**
 * What a run has come to: the fold over its journal. Stages, parameters, epochs, counters, curves and state are a
 * deterministic function of the entries folded in, from the beginning or from a checkpoint on; nothing here depends
 * on who is connected, on time beside that in the entries, or on anything that is not journalled.
 */
import type { RunState, TestPoint, TrainPoint } from '../../shared/api.ts'
import { classifies } from '../../shared/models.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Dataset } from '../datasets/dataset.ts'
import type { Checkpoint, Entry } from '../journal/journal.ts'
import type { Stretch } from '../strategies/epochs.ts'
import { Divergence, type DivergenceState, knowingNothing, overflown } from './divergence.ts'
import { bytesOf, cut, floatsOf, join } from './packing.ts'
import { Series, type SeriesState } from './series.ts'
import { Stage, type StageState } from './stage.ts'
import { type StagePlan, stagesOf } from './stages.ts'

/** Data of an `update` entry; its payload is the encoded vector. */
export interface UpdateData {
  lease: string
  volunteer: string
  /** Base version. */
  version: number
  minibatches: number
  examples: number
  /** null where a search looked at a point at which it is not finite. */
  lossSum: number | null
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

/** What an entry says of its run. */
export type Said =
  | { kind: 'update'; data: UpdateData; payload: Uint8Array }
  | { kind: 'evaluated'; data: TestPoint; payload: Uint8Array | null }
  | { kind: 'state'; data: StateData; payload: null }

/**
 * A checkpoint is due after so many bytes of updates in any case: they are what a restart has to fold, and the disk to
 * hold.
 */
const CHECKPOINT_BYTES = 256 * 1024 * 1024

/** The parameters themselves are looked at after so many updates, and before they are kept. */
const LOOK_EVERY = 64

/** Which state may follow which. */
const TRANSITIONS: Record<RunState, RunState[]> = {
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
  series: SeriesState
  divergence: DivergenceState
  gaps: number[]
  stage: number
  stageState: StageState
  /** Floats of each trained RBM, and bytes of the last test's outcomes. */
  stack: number[]
  outcomes: number
  runningSince: number | null
}

/** What an entry added to the curves. */
export interface Points {
  readonly train: TrainPoint | null
  readonly test: TestPoint | null
}

export class History {
  readonly spec: RunSpec
  readonly stages: readonly StagePlan[]
  readonly series: Series
  /**
   * Of the last test, one class byte for every test example, then an f32 loss each; null where nothing is classified.
   */
  outcomes: Uint8Array | null = null
  readonly dataset: Dataset
  private readonly counters: Counters
  private current: Stage
  /** The parameters of the RBMs that are trained, from below. */
  private readonly trainedStack: Float32Array[] = []
  private divergence: Divergence
  /** The free-energy gaps of this stage's tests. */
  private gaps: number[]
  /** The newest entry folded in, and the updates since the last checkpoint. */
  private folded = 0
  private sinceCheckpoint = 0
  private bytesSinceCheckpoint = 0
  /** The newest entry that a written checkpoint has. */
  private checkpointed = 0
  private atRest = false
  /** When the run's clock last moved; null while it stands. */
  private runningSince: number | null = null

  /** Throws where the model does not fit the dataset. */
  constructor(spec: RunSpec, dataset: Dataset, checkpoint?: Checkpoint) {
    // A copy: it goes on changing, and whoever holds the checkpoint may restore it again.
    const saved = structuredClone(checkpoint?.state) as Saved | undefined
    this.spec = spec
    this.dataset = dataset
    this.stages = stagesOf(spec)
    if (saved !== undefined) {
      this.trainedStack = saved.stack.map((size, i) => join(checkpoint!.vectors, `stack-${i}`, size))
      if (saved.outcomes > 0)
        this.outcomes = bytesOf(join(checkpoint!.vectors, OUTCOMES, Math.ceil(saved.outcomes / 4)), saved.outcomes)
    }
    const restored = saved && { state: saved.stageState, vectors: checkpoint!.vectors }
    this.current = this.open(saved?.stage ?? 0, 0, restored)
    this.series = new Series(saved?.series)
    this.divergence = new Divergence(knowingNothing(this.model), saved?.divergence)
    this.gaps = saved?.gaps ?? []
    this.counters = saved?.counters ?? {
      state: 'draft',
      reason: null,
      updates: 0,
      examples: 0,
      stalenessSum: 0,
      bytesUp: 0,
      seconds: 0,
    }
    this.folded = checkpoint?.seq ?? 0
    this.checkpointed = this.folded
    this.runningSince = saved?.runningSince ?? null
  }

  /** The stage that is under way, or the last one. */
  get stage(): Stage {
    return this.current
  }

  get model() {
    return this.current.model
  }

  get parameters() {
    return this.current.parameters
  }

  get versions() {
    return this.current.versions
  }

  get epochs() {
    return this.current.epochs
  }

  get strategy() {
    return this.current.strategy
  }

  get stack(): readonly Float32Array[] {
    return this.trainedStack
  }

  get state(): RunState {
    return this.counters.state
  }

  /** Why it cannot come into a state from the one that it is in; null where it can. */
  cannotBecome(state: RunState): string | null {
    const allowed = TRANSITIONS[this.state]
    if (allowed.includes(state)) return null
    return `a run that is ${this.state} cannot become ${state}; it can become ${allowed.join(', ') || 'nothing else'}`
  }

  get reason(): string | null {
    return this.counters.reason
  }

  get counts(): Readonly<Counters> {
    return this.counters
  }

  /** Every planned example of the stage is counted; what is left of it is its last test. */
  get trained(): boolean {
    return this.current.trained
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
        return { train: null, test: this.foldEvaluated(entry.data as TestPoint, entry.payload) }
      case 'state': {
        const { state, reason } = entry.data as StateData
        // In an older journal, what was journalled since it was asked for may have finished the run.
        if (this.cannotBecome(state) === null) this.enter(state, reason, entry.at)
        // What came in while it was paused may have been the end of it.
        if (this.state === 'running' && this.strategy.failure) this.enter('failed', this.strategy.failure, entry.at)
        this.endStageIfTested()
        break
      }
    }
    return { train: null, test: null }
  }

  private foldUpdate(data: UpdateData, payload: Uint8Array | null): TrainPoint | null {
    if (payload === null) throw new Error(`invariant: the update of lease ${data.lease} has no payload to fold`)
    const { counters, current } = this
    const staleness = this.parameters.version - data.version
    const lossSum = data.lossSum ?? Number.POSITIVE_INFINITY
    current.fold({ ...data, lossSum, staleness, payload })
    this.sinceCheckpoint++
    this.bytesSinceCheckpoint += payload.length
    counters.updates++
    counters.examples += data.examples
    counters.stalenessSum += staleness
    counters.bytesUp += payload.length
    const diverged = this.divergedBy(lossSum, data)
    if (diverged !== null && this.state === 'running') this.enter('failed', diverged, 0)
    const told = Number.isFinite(lossSum) && data.examples > 0
    const seen = { ...data, lossSum, staleness, stage: current.plan.name, epoch: current.progress }
    const { seconds, examples: examplesSoFar } = counters
    const point = told ? this.series.observe({ ...seen, seconds, examplesSoFar }) : null
    // What it came to may have been tested already, as a trial point of a search.
    this.endStageIfTested()
    return point
  }

  private divergedBy(lossSum: number, { volunteer, examples }: UpdateData): string | null {
    const { strategy } = this.current
    if (strategy.failure) return strategy.failure
    // A search may try what is too far, and knows what to do then.
    if (strategy.searches || examples === 0) return null
    const looked = this.counters.updates % LOOK_EVERY === 0 ? this.overflown : null
    return looked ?? this.divergence.observe(volunteer, lossSum / examples)
  }

  private get overflown(): string | null {
    return overflown(this.model, this.parameters.meanSquare)
  }

  /**
   * A stage is ended by the test of its last version; the run also by one that reaches the accuracy it was to reach.
   */
  private foldEvaluated(point: TestPoint, outcomes: Uint8Array | null): TestPoint {
    this.series.evaluated(point)
    this.outcomes = outcomes
    const { accuracy } = this.spec.stop
    const reached = accuracy !== undefined && point.accuracy >= accuracy && classifies(this.current.model.objective)
    if (this.state === 'running' && reached) this.enter('finished', null, 0)
    if (this.overfits(point)) this.endStage()
    else this.endStageIfTested()
    return point
  }

  /** The gap between the free energies of held-out and training examples has grown in every one of the last tests. */
  private overfits({ measure, trainMeasure }: TestPoint): boolean {
    const { gapChecks } = this.current.plan
    if (gapChecks === 0 || measure === null || trainMeasure === null) return false
    this.gaps.push(measure - trainMeasure)
    const last = this.gaps.slice(-gapChecks - 1)
    return last.length > gapChecks && last.every((gap, i) => i === 0 || gap > last[i - 1])
  }

  /** Trained, and its last version tested: by this test, or while it was paused. */
  private endStageIfTested(): void {
    const tested = this.series.test.at(-1)?.version === this.parameters.version
    if (this.trained && tested) this.endStage()
  }

  /** The next stage begins with what this one came to; after the last one the run is finished. */
  private endStage(): void {
    if (this.state !== 'running') return
    const next = this.current.index + 1
    if (next === this.stages.length) return this.enter('finished', null, 0)
    this.current.conclude()
    const { overflown } = this
    if (overflown !== null) return this.enter('failed', overflown, 0)
    this.trainedStack.push(this.parameters.snapshot())
    this.current = this.open(next, this.parameters.version + 1)
    this.divergence = new Divergence(knowingNothing(this.model))
    this.gaps = []
    this.series.newStage(this.counters.seconds)
  }

  private open(index: number, version: number, saved?: ConstructorParameters<typeof Stage>[5]): Stage {
    const { spec, dataset, trainedStack: stack } = this
    return new Stage(spec, this.stages[index], index, dataset, { stack, version }, saved)
  }

  private enter(state: RunState, reason: string | null, at: number): void {
    if (state === 'finished') {
      this.current.conclude()
      this.current.abandon()
      const { overflown } = this
      if (overflown !== null) return this.enter('failed', overflown, at)
    }
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

  /** A state to come back to: it is not diverging. */
  get sound(): boolean {
    return !this.divergence.suspected && this.overflown === null
  }

  get checkpointDue(): boolean {
    const due = this.sinceCheckpoint >= this.spec.checkpointEvery || this.bytesSinceCheckpoint >= CHECKPOINT_BYTES
    return due && this.strategy.quiescent && this.sound
  }

  /** A checkpoint is written that says all. */
  get saved(): boolean {
    return this.checkpointed === this.folded
  }

  /** This checkpoint is written. */
  wrote({ seq }: Checkpoint): void {
    this.checkpointed = seq
  }

  /** The run is at its end, and looked at only: what training needs is in its checkpoint, and given back. */
  rest(): void {
    this.atRest = true
    this.current.rest()
  }

  get resting(): boolean {
    return this.atRest
  }

  /**
   * The history as it stands, to be written before anything else is folded in; null in the middle of a batch, and at
   * rest.
   */
  checkpoint(run: string): Checkpoint | null {
    if (!this.strategy.quiescent || this.atRest) return null
    this.sinceCheckpoint = 0
    this.bytesSinceCheckpoint = 0
    const { current, trainedStack, outcomes } = this
    return {
      run,
      seq: this.folded,
      // Written as JSON at once: what goes on changing is not kept.
      state: JSON.parse(JSON.stringify(this)),
      vectors: [
        ...current.vectors(),
        ...trainedStack.flatMap((values, i) => cut(`stack-${i}`, values)),
        ...(outcomes === null ? [] : cut(OUTCOMES, floatsOf(outcomes))),
      ],
    }
  }

  /** What a checkpoint says beside its vectors. */
  toJSON() {
    const { counters, series, divergence, gaps, current, runningSince, trainedStack, outcomes } = this
    return {
      ...{ counters, series, divergence, gaps, runningSince },
      stage: current.index,
      stageState: current,
      stack: trainedStack.map(({ length }) => length),
      outcomes: outcomes?.length ?? 0,
    } satisfies Record<keyof Saved, unknown>
  }
}

const OUTCOMES = 'outcomes'
