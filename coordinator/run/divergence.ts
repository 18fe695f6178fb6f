/**
 * Whether training has diverged: the loss of what is accepted has grown far past what it was at the beginning. A
 * function of the journalled updates only, so a replay finds it at the same update. (A loss that is not finite never
 * gets here: such updates are refused; see run.ts, `suspect`.)
 */

/** Updates whose median loss is the stage's first one, and over whose number the newest is a running mean. */
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
  /** The first losses. */
  begun: number[]
  recent: number
}

export class Divergence {
  private readonly state: DivergenceState

  constructor(state: DivergenceState = { begun: [], recent: 0 }) {
    this.state = { begun: [...state.begun], recent: state.recent }
  }

  toJSON(): DivergenceState {
    return this.state
  }

  /** The loss is rising far enough that what there is now may not be worth keeping. */
  get suspected(): boolean {
    const { begun, recent } = this.state
    return begun.length === UPDATES && recent > SUSPECT * this.first
  }

  /** Adds an update's mean loss; why training has diverged, if it has. */
  observe(loss: number): string | null {
    const { state } = this
    if (state.begun.length < UPDATES) {
      state.begun.push(loss)
      state.recent = this.first
      return null
    }
    const { first } = this
    // No loss is negative: one that is said to be must not hide others.
    state.recent += (Math.max(0, Math.min(loss, CAP * first)) - state.recent) / UPDATES
    if (state.recent <= FACTOR * first) return null
    return (
      `training diverged: the loss of the last updates is ${state.recent.toPrecision(3)}, ` +
      `at first it was ${first.toPrecision(3)}; lower the rate`
    )
  }

  /** The median of the first losses: a few false reports do not move it. */
  private get first(): number {
    const sorted = [...this.state.begun].sort((a, b) => a - b)
    return Math.max(FLOOR, sorted[sorted.length >> 1])
  }
}
