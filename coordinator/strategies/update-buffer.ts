/**
 * A buffer of updates (FedBuff, Nguyen et al. 2022, algorithm 1): so many updates, each times its weight, are averaged
 * into one step. It makes a step's gradient larger, and a staleness smaller, than one step an update does.
 *
 * What it holds is one vector, however many updates are in it, so their payloads can go. That vector is in no
 * checkpoint: one is only taken while the buffer is empty. At the end of a stage it is emptied as it is, and then too
 * an update counts for 1/size: one that came late is worth as much as any other, and no step is larger than a full
 * one's.
 */
import type { Vectors } from '../parameters/vectors.ts'
import type { Apply } from './strategy.ts'

const ACCRUED = 'buffer'

export class UpdateBuffer {
  /** Updates that make it full. */
  readonly size: number
  private readonly vectors: Vectors
  private count = 0
  /** Σ weight · minibatches. */
  private minibatches = 0

  constructor(size: number, vectors: Vectors) {
    this.size = size
    this.vectors = vectors
  }

  /** Updates in it. */
  get held(): number {
    return this.count
  }

  /** Adds weight · the vector, which so many minibatches gave; true where it is full now. */
  add(vector: string, weight: number, minibatches: number): boolean {
    if (this.count === 0) this.vectors.create(ACCRUED)
    this.minibatches += weight * minibatches
    this.vectors.axpy(ACCRUED, weight, vector)
    this.count++
    return this.count === this.size
  }

  /** The step of what is in it, which is the caller's from here on. */
  take(): Apply {
    const { minibatches } = this
    this.count = 0
    this.minibatches = 0
    return { parts: [{ vector: ACCRUED, weight: 1 / this.size, minibatches }] }
  }
}
