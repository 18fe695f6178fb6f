/**
 * A strategy says which work goes out and how what comes back is folded in; nothing else. It holds no clock, no
 * socket and no parameters: state in, drafts and effects out. Its state is plain JSON and is written with every
 * checkpoint; `fold` must be a deterministic function of the state and the journalled update, since recovery is the
 * same fold over the same journal.
 */
import type { IterationPoint } from '../../shared/api.ts'
import type { CodecName } from '../../shared/codec-names.ts'
import type { GradientPart, Parameters } from '../parameters/parameters.ts'
import type { Epochs, Stretch } from './epochs.ts'

/** What a strategy is opened in. */
export interface StrategyRoom {
  /** Training examples of a pass. */
  readonly examples: number
  /** Name of the update rule. */
  readonly rule: string
  readonly codec: CodecName
  readonly seed: number
  /** How many of the examples [from, to) as stored are in the Bernoulli sample of a pass. */
  sampled(pass: number, fraction: number, from: number, to: number): number
  /** Most iterations, where the strategy counts them. */
  readonly iterations: number
  readonly parameters: Parameters
}

/** Who asks for work, and what there is. */
export interface Ask {
  readonly volunteer: string
  /** Place in the queue of those who work, from 0: what warm start counts. */
  readonly rank: number
  /** Examples that fit the time box at this volunteer's measured speed; at least 1. */
  readonly fitting: number
  readonly epochs: Epochs
  /** Work that is out now, oldest first: what a backup may be given of. */
  readonly out: readonly Outstanding[]
  /** Whether a volunteer neither holds a lease nor asked for one lately: nobody should wait for it. */
  idle(volunteer: string): boolean
  /**
   * Whether of so many free portions one may go to this volunteer: who holds no lease and wants one comes before who
   * would only have its next one at hand. Of none only who holds no lease may take something, a copy.
   */
  mayTake(free: number): boolean
}

export interface Outstanding {
  readonly stretches: readonly Stretch[]
  /** Who holds it: several, where backups were given. */
  readonly volunteers: readonly string[]
  /** All of them have taken far longer than they should. */
  readonly late?: boolean
}

export interface Work {
  readonly stretches: Stretch[]
  /**
   * Of the training examples in the epoch's shuffled order, of those as stored (the same shards in every pass), or of
   * the test examples.
   */
  readonly from: 'shuffled' | 'train' | 'test'
  /** Only a Bernoulli sample of them, of this probability. */
  readonly fraction: number
  /** Examples of a minibatch. */
  readonly batchSize: number
  /** A lease that must be done whole has no time box. */
  readonly timeBoxed: boolean
  /** Whether the update sums the minibatches' mean gradients or the examples' gradients. */
  readonly reduce: 'mean' | 'sum'
  /** The payload is to be two vectors: that sum, and what its rounding lost. */
  readonly compensated: boolean
  /** The volunteer's next lease is begun before this one has settled. */
  readonly overlaps: boolean
  /** Nothing that others do makes its update useless, unless it is late: it may be sent without asking for leave. */
  readonly sure: boolean
}

/** Work where a draft does not say otherwise. */
export const PLAIN = {
  from: 'shuffled',
  fraction: 1,
  reduce: 'mean',
  compensated: false,
  overlaps: false,
  sure: false,
} as const

export type Drafted = Partial<Work> & Omit<Work, keyof typeof PLAIN>

export type Draft = Drafted | { readonly wait: string }

/** To what a lease is bound when the volunteer begins it. */
export interface Binding {
  readonly version: number
  readonly localRate: number
  /** The lease whose final replica it goes on from. */
  readonly continues: string | null
}

/** An accepted update as the journal holds it. */
export interface Settled {
  readonly lease: string
  readonly volunteer: string
  /** Base version. */
  readonly version: number
  /** Versions that came between it and now. */
  readonly staleness: number
  readonly minibatches: number
  readonly stretches: Stretch[]
  /** Examples that were taken: of a Bernoulli sample fewer than the stretches are long. */
  readonly examples: number
  /** Infinity where it is not finite, which only a strategy that searches is given. */
  readonly lossSum: number
  /** The encoded sum of the minibatches' mean gradients, or of the examples'; then what it lost, where asked for. */
  readonly payload: Uint8Array
}

/**
 * The server's step: gradient = Σ weight · decode(payload), summed in this order, then the update rule, then a new
 * version. In place of a payload there may be a vector of the parameters that the strategy made.
 */
export interface Apply {
  readonly parts: readonly GradientPart[]
}

export interface Strategy {
  /** The next work for this volunteer, or why there is none now. */
  next(ask: Ask): Draft
  /** Binds a lease at `version`, the newest one; `rate` is the server's current rate. */
  bind(lease: string, volunteer: string, version: number, rate: number): Binding
  /**
   * Folds an update in: the step it brings; `published` where the strategy made the next version itself, on the vectors
   * of the parameters; null where nothing is applied yet.
   */
  fold(settled: Settled): Apply | 'published' | null
  /**
   * Nothing more is folded in: the step that what is still held brings, or `published` where the newest version was
   * none to end with and another one is made.
   */
  conclude?(): Apply | 'published' | null
  /** The run is over: what waits for the rest of its batch or pass is let go. */
  abandon?(): void
  /** A lease of the volunteer came to nothing. */
  lost(lease: string, volunteer: string): void
  /** The volunteer is gone: forget what was only a hint. */
  left(volunteer: string): void
  /** Versions behind the newest that an update may be; more is refused as stale. */
  readonly maxStaleness: number
  /** Nothing is published while work is out: what is granted at a version is started at it. */
  readonly lockstep: boolean
  /** Everything folded so far is applied: a checkpoint may be taken here. */
  readonly quiescent: boolean
  /** Why nothing is left to do before the planned passes are over (it converged); null while there is. */
  readonly ended: string | null
  /** Why nothing can come of it any more: the run fails. */
  readonly failure?: string | null
  /** Steps so far, where they are not passes over the examples: iterations. */
  readonly iterations?: number
  /** The loss of each iteration. */
  readonly history?: readonly IterationPoint[]
  /** It looks for a point: that losses grow from one version to the next says nothing of divergence. */
  readonly searches?: boolean
  /** The newest version is such a trial point: a loss that is not finite there is an answer, not a fault. */
  readonly probes?: boolean
  /** Vectors that a checkpoint must hold beside the parameters and the update rule's. */
  readonly vectors: readonly string[]
  /** What must survive: JSON. */
  toJSON(): unknown
}
