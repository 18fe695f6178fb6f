/**
 * Whether training has diverged: the loss of what is accepted has grown far past what it was at the beginning. A
 * function of the journalled updates only, so a replay finds it at the same update. (A loss that is not finite never
 * gets here: such updates are refused; see run.ts, `suspect`.)
 */

/** Updates whose mean loss is the stage's first one, and over whose number the newest is a running mean. */
const UPDATES = 8
/**
 * Untrained classifiers begin near ln C and autoencoders near half their worst; a loss this many times as high is worse
 * than knowing nothing, and training does not come back from there.
 */
const FACTOR = 20
/** From here on no checkpoint is written. */
const SUSPECT = 3
/** One update counts for at most twice that: a single false report does not end a run. */
const CAP = 2 * FACTOR
/** A stage that begins with next to no loss has all of this to grow from, nats. */
const FLOOR = 0.05

export interface DivergenceState {
  seen: number
  first: number
  recent: number
}

export class Divergence {
  private state: DivergenceState

  constructor(state: DivergenceState = { seen: 0, first: 0, recent: 0 }) {
    this.state = { ...state }
  }

  toJSON(): DivergenceState {
    return this.state
  }

  /** The loss is rising far enough that what there is now may not be worth keeping. */
  get suspected(): boolean {
    const { seen, recent, first } = this.state
    return seen > UPDATES && recent > SUSPECT * Math.max(FLOOR, first)
  }

  /** Adds an update's mean loss; why training has diverged, if it has. */
  observe(loss: number): string | null {
    const { state } = this
    state.seen++
    if (state.seen <= UPDATES) {
      state.first += (loss - state.first) / state.seen
      state.recent = state.first
      return null
    }
    const first = Math.max(FLOOR, state.first)
    state.recent += (Math.min(loss, CAP * first) - state.recent) / UPDATES
    if (state.recent <= FACTOR * first) return null
    return (
      `training diverged: the loss of the last updates is ${state.recent.toPrecision(3)}, ` +
      `at first it was ${state.first.toPrecision(3)}; lower the rate`
    )
  }
}
