/**
 * Whether training has diverged: the loss of what is accepted has grown far past what it was at the beginning. A
 * function of the journalled updates only, so a replay finds it at the same update. (A loss that is not finite never
 * gets here: such updates are refused; see run.ts, `suspect`.)
 */
import type { Model } from '../../shared/models.ts'
import { elementsOf } from '../../shared/shape.ts'

/** Updates whose median loss is the stage's first one, and over whose number a volunteer's newest is a running mean. */
const UPDATES = 8
/**
 * Untrained classifiers begin near ln C and autoencoders near half their worst; a loss this many times as high is worse
 * than knowing nothing, and training does not come back from there.
 */
const FACTOR = 20
/**
 * What a stage begins with counts for at most this many times that: a rate may be too high from the first update on.
 */
const FIRST_MAX = 4
/** From here on no checkpoint is written. */
const SUSPECT = 3
/** One update counts for at most twice that: a single false report does not end a run. */
const CAP = 2 * FACTOR
/** Who was not heard of in so many updates has no voice, and begins with the crowd's when heard again. */
const HEARD_WITHIN = 64

/**
 * Root mean square of an RBM's weights: with some hundred visible units on, a hidden one's input is then around ±100,
 * of which the sigmoid is 0 or 1 in float32. Those that the published schedule trains have 0.12 to 0.24 (measured).
 */
const SATURATED = 10

export interface DivergenceState {
  /** The first losses. */
  begun: number[]
  /** Updates so far. */
  updates: number
  /** Of each volunteer its running mean, and the update it was last heard in. */
  recent: [volunteer: string, mean: number, at: number][]
}

export class Divergence {
  private readonly floor: number
  private readonly begun: number[]
  private readonly recent: Map<string, { mean: number; at: number }>
  private updates: number

  /** `floor`: the loss of a model that knows nothing; a stage that begins below may grow from there. */
  constructor(floor: number, state: DivergenceState = { begun: [], updates: 0, recent: [] }) {
    this.floor = floor
    this.begun = [...state.begun]
    this.updates = state.updates
    this.recent = new Map(state.recent.map(([volunteer, mean, at]) => [volunteer, { mean, at }]))
  }

  toJSON(): DivergenceState {
    const recent = [...this.recent].map(
      ([volunteer, { mean, at }]) => [volunteer, mean, at] as [string, number, number],
    )
    return { begun: this.begun, updates: this.updates, recent }
  }

  /** The loss is rising far enough that what there is now may not be worth keeping. */
  get suspected(): boolean {
    return this.begun.length === UPDATES && this.now > SUSPECT * this.first
  }

  /** Adds an update's mean loss; why training has diverged, if it has. */
  observe(volunteer: string, loss: number): string | null {
    this.updates++
    if (this.begun.length < UPDATES) {
      this.begun.push(loss)
      return null
    }
    this.hear(volunteer, loss)
    const { first, now } = this
    if (now <= FACTOR * first) return null
    return (
      `training diverged: the loss of the last updates is ${now.toPrecision(3)}, ` +
      `at first, or of a model that knows nothing, it was ${first.toPrecision(3)}; lower the rate`
    )
  }

  private hear(volunteer: string, loss: number): void {
    const { first, updates, recent } = this
    const before = recent.get(volunteer)?.mean ?? this.now
    const mean = before + (Math.min(loss, CAP * first) - before) / UPDATES
    recent.delete(volunteer)
    recent.set(volunteer, { mean, at: updates })
    for (const [other, { at }] of recent) {
      if (at > updates - HEARD_WITHIN) break
      recent.delete(other)
    }
  }

  /**
   * The lower median over the volunteers: one volunteer is one voice, however much it sends. Of nobody it is the first.
   */
  private get now(): number {
    const sorted = [...this.recent.values()].map(({ mean }) => mean).sort((a, b) => a - b)
    return sorted[(sorted.length - 1) >> 1] ?? this.first
  }

  /** The median of the first losses: a few false reports do not move it, nor do many move it far. */
  private get first(): number {
    const sorted = [...this.begun].sort((a, b) => a - b)
    return Math.min(FIRST_MAX * this.floor, Math.max(this.floor, sorted[sorted.length >> 1]))
  }
}

/** Why parameters of this mean square have gone too far, which the loss need not tell: an RBM's is bounded. */
export function overflown({ objective }: Model, meanSquare: number): string | null {
  if (!Number.isFinite(meanSquare)) return 'training diverged: parameters are not finite any more; lower the rate'
  if (objective.kind !== 'contrastive' || meanSquare <= SATURATED ** 2) return null
  const length = Math.sqrt(meanSquare).toPrecision(3)
  return `training diverged: the root mean square of the weights is ${length}, at which every unit is always on or always off; lower the rate`
}

/** The loss of a model that has learnt nothing: of equally likely classes; of grey pixels; nats, or squares an RBM. */
export function knowingNothing({ objective, classes, inputShape, layout }: Model): number {
  const inputs = elementsOf(inputShape)
  switch (objective.kind) {
    case 'classify':
      return Math.log(Math.max(2, classes))
    case 'reconstruct':
      return inputs * Math.LN2
    case 'contrastive':
      return (layout.slots.find(({ name }) => name.endsWith('/visible_bias'))?.size ?? inputs) / 4
  }
}
