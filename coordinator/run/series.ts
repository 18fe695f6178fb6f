/**
 * The run's curves: what was accepted, gathered into points, at most POINTS_MAX of them however long the run; when
 * there are more, neighbours are merged two by two. A fold over journalled updates, so it is the same after a crash.
 */
import type { TestPoint, TrainPoint } from '../../shared/api.ts'

const POINTS_MAX = 1_000
/** A point gathers at least this much running time, doubled with every merge. */
const POINT_SECONDS = 1
/** The train loss that is shown is a mean over about so many examples. */
const LOSS_EXAMPLES = 4_000
/** The rate that is shown is that of about so much running time. */
const RATE_SECONDS = 10

export interface SeriesState {
  train: TrainPoint[]
  test: TestPoint[]
  pointSeconds: number
  gathered: Gathered
  recent: { examples: number; loss: number } | null
}

interface Gathered {
  sinceSeconds: number
  examples: number
  lossSum: number
  correct: number
  updates: number
  staleness: number
}

export interface Observation {
  stage: string
  /** Running time of the run, seconds. */
  seconds: number
  /** Of this update, and of the run up to it. */
  examples: number
  examplesSoFar: number
  epoch: number
  lossSum: number
  correct: number
  staleness: number
  volunteers: number
}

const nothing = (sinceSeconds: number): Gathered => ({
  sinceSeconds,
  examples: 0,
  lossSum: 0,
  correct: 0,
  updates: 0,
  staleness: 0,
})

export class Series {
  private state: SeriesState

  constructor(state?: SeriesState) {
    this.state = state ?? { train: [], test: [], pointSeconds: POINT_SECONDS, gathered: nothing(0), recent: null }
  }

  toJSON(): SeriesState {
    return this.state
  }

  get train(): readonly TrainPoint[] {
    return this.state.train
  }

  get test(): readonly TestPoint[] {
    return this.state.test
  }

  /** Mean loss of the examples of the last few updates. */
  get recentLoss(): number | null {
    return this.state.recent?.loss ?? null
  }

  /** Examples a second lately, of a run that has accepted so many in so much running time. */
  recentRate(examples: number, seconds: number): number {
    const before = this.state.train.findLast((point) => point.seconds <= seconds - RATE_SECONDS)
    const since = before ?? { examples: 0, seconds: 0 }
    return seconds > since.seconds ? (examples - since.examples) / (seconds - since.seconds) : 0
  }

  /** Adds an accepted update; returns the point it completes, if it does. */
  observe(seen: Observation): TrainPoint | null {
    const { gathered } = this.state
    gathered.examples += seen.examples
    gathered.lossSum += seen.lossSum
    gathered.correct += seen.correct
    gathered.staleness += seen.staleness
    gathered.updates++
    this.remember(seen)
    const elapsed = seen.seconds - gathered.sinceSeconds
    if (elapsed < this.state.pointSeconds || gathered.examples === 0) return null
    const point: TrainPoint = {
      stage: seen.stage,
      seconds: seen.seconds,
      examples: seen.examplesSoFar,
      epoch: seen.epoch,
      loss: gathered.lossSum / gathered.examples,
      accuracy: gathered.correct / gathered.examples,
      examplesPerSecond: gathered.examples / elapsed,
      staleness: gathered.staleness / gathered.updates,
      volunteers: seen.volunteers,
    }
    this.state.gathered = nothing(seen.seconds)
    this.state.train.push(point)
    if (this.state.train.length > POINTS_MAX) this.merge()
    return point
  }

  /** Losses of another stage are of another kind: the mean begins anew, and so does what is gathered. */
  newStage(seconds: number): void {
    this.state.recent = null
    this.state.gathered = nothing(seconds)
  }

  evaluated(point: TestPoint): void {
    this.state.test.push(point)
    if (this.state.test.length > POINTS_MAX) this.state.test = everySecond(this.state.test)
  }

  private remember({ examples, lossSum }: Observation): void {
    const before = this.state.recent
    if (examples === 0) return
    const loss = lossSum / examples
    if (before === null) {
      this.state.recent = { examples, loss }
      return
    }
    const kept = Math.min(before.examples, LOSS_EXAMPLES)
    const weight = Math.min(1, examples / (kept + examples))
    this.state.recent = { examples: kept + examples, loss: (1 - weight) * before.loss + weight * loss }
  }

  private merge(): void {
    const { train } = this.state
    const merged: TrainPoint[] = []
    for (let i = 0; i < train.length; ) {
      const [a, b] = [train[i++], train[i]]
      // The newest one may be left over, and a stage's last one: losses of two stages are of two kinds.
      if (b === undefined || a.stage !== b.stage) {
        merged.push(a)
        continue
      }
      i++
      const mean = (key: 'loss' | 'accuracy' | 'examplesPerSecond' | 'staleness') => (a[key] + b[key]) / 2
      merged.push({
        ...b,
        loss: mean('loss'),
        accuracy: mean('accuracy'),
        examplesPerSecond: mean('examplesPerSecond'),
        staleness: mean('staleness'),
      })
    }
    this.state.train = merged
    this.state.pointSeconds *= 2
  }
}

/** Half of them, the newest among them. */
function everySecond<T>(points: readonly T[]): T[] {
  return points.filter((_, i) => (points.length - 1 - i) % 2 === 0)
}
