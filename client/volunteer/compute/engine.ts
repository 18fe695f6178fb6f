/**
 * What the volunteer's loop needs of a compute backend, small enough to read aloud. tfjs lives behind it
 * (DESIGN §6: tfjs moves slowly, so it must be swappable) and nowhere else.
 *
 *     const engine = await openEngine('wasm')           // refused when its gradient does not agree with the reference
 *     const trainer = await engine.load(model)
 *     trainer.begin(parameters)                         // the replica, and an accrued gradient of zero
 *     trainer.step(minibatch, { localRate, weight: 1 }) // accrued += g; replica -= localRate·g
 *     await trainer.settled()                           // wait for the device, so that time can be measured
 *     const { gradient, lossSum, correct } = await trainer.finish()
 */
import type { BackendName } from '../../../shared/backends.ts'
import type { Model } from '../../../shared/models.ts'

/** The model blob of a lease, parsed, with the parameters that are not trained. */
export type ModelDescription = Omit<Model, 'augment'>

export interface Minibatch {
  /** count × Π inputShape floats. */
  readonly inputs: Float32Array
  /** count class indices. */
  readonly labels: Uint8Array
  /**
   * count × 2: each example's draw key, `new Random({ key0, key1 }, stream, …)`: of it every random number that
   * concerns it is drawn.
   */
  readonly keys: Uint32Array
  readonly count: number
}

export interface Outcome {
  /**
   * Flat, layout order: the weighted sum of the steps' gradients, and when compensated what its rounding lost after it;
   * null when there was no step. Valid until `begin`.
   */
  gradient: Float32Array | null
  /** Sums over the examples: the objective's loss, hits (classify), and its second measure (models.ts, Objective). */
  lossSum: number
  correct: number
  measureSum: number
  /** Of a classifier's `evaluate`: one byte an example, the class it was taken for, then one f32 each, its loss. */
  outcomes: Uint8Array | null
}

export interface Engine {
  readonly backend: BackendName
  /** For people: "WASM SIMD, 1 thread", "WebGPU (Apple M2)". */
  readonly device: string
  /**
   * @throws Error where the topology does not end as its objective wants it (models.ts, Objective), has other weights
   * than the layouts, or holds a layer that draws random numbers by itself (Dropout does not: its come from the keys).
   */
  load(model: ModelDescription): Promise<Trainer>
  /** Disposes the engine's trainers and gives the device back. */
  close(): Promise<void>
}

/** Every method throws (or rejects with) an Error that names the backend when the device was lost: open another. */
export interface Trainer {
  /**
   * Sets the replica to `parameters` (flat, in layout order; copied) and the accrued gradient, loss and count to zero.
   * With `compensated` these are summed as if with twice the bits.
   */
  begin(parameters: Float32Array, how?: { compensated: boolean }): void
  /**
   * One minibatch: g = gradient of the objective's mean over the minibatch at the replica (for contrastive divergence,
   * minus its estimate of the log-likelihood's gradient); accrued += weight·g; replica -= localRate·g. The
   * minibatch's memory may be used again as soon as it returns.
   */
  step(minibatch: Minibatch, how: { localRate: number; weight: number }): void
  /** The objective's sums over the examples at the replica, without dropout or gradient. */
  evaluate(minibatch: Minibatch): void
  /** Resolves when everything asked so far is computed. */
  settled(): Promise<void>
  /** What this lease came to, in one transfer from the device. */
  finish(): Promise<Outcome>
  /** The replica as it stands (flat, layout order; a copy), for a lease that continues this one. */
  replica(): Promise<Float32Array>
  dispose(): void
}
