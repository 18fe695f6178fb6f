/**
 * A strategy says which work goes out and how what comes back is folded in; nothing else. It holds no clock, no
 * socket and no parameters: state in, drafts and effects out. Its state is plain JSON and is written with every
 * checkpoint; `fold` must be a deterministic function of the state and the journalled update, since recovery is the
 * same fold over the same journal.
 */
import type { Epochs, Stretch } from './epochs.ts'

/** Who asks for work, and what there is. */
export interface Ask {
  readonly volunteer: string
  /** Place in the queue of those who work, from 0: what warm start counts. */
  readonly rank: number
  /** Examples that fit the time box at this volunteer's measured speed; at least 1. */
  readonly fitting: number
  readonly epochs: Epochs
}

export type Draft =
  | {
      readonly stretches: Stretch[]
      /** Examples of a minibatch. */
      readonly batchSize: number
      /** A lease that must be done whole has no time box. */
      readonly timeBoxed: boolean
    }
  | { readonly wait: string }

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
  readonly minibatches: number
  readonly stretches: Stretch[]
  readonly examples: number
  /** The encoded sum of the minibatches' mean gradients. */
  readonly payload: Uint8Array
}

/** The server's step: gradient = Σ weight · decode(payload), summed in this order, then the update rule, then a new version. */
export interface Apply {
  readonly parts: { readonly payload: Uint8Array; readonly weight: number }[]
}

export interface Strategy {
  /** The next work for this volunteer, or why there is none now. */
  next(ask: Ask): Draft
  /** Binds a lease at `version`, the newest one; `rate` is the server's current rate. */
  bind(lease: string, volunteer: string, version: number, rate: number): Binding
  /** Folds an update in; null where nothing is applied yet. */
  fold(settled: Settled): Apply | null
  /** The volunteer is gone: forget what was only a hint. */
  left(volunteer: string): void
  /** Versions behind the newest that an update may be; more is refused as stale. */
  readonly maxStaleness: number
  /** Versions that so many accepted updates, not yet folded in, will bring: what follows them is that much staler. */
  versionsOf(updates: number): number
  /** Everything folded so far is applied: a checkpoint may be taken here. */
  readonly quiescent: boolean
  /** What must survive: JSON. */
  toJSON(): unknown
}
