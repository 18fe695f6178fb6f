/**
 * What the volunteer's loop needs of a compute backend, small enough to read aloud. tfjs lives behind it
 * (DESIGN §6: tfjs moves slowly, so it must be swappable) and nowhere else.
 *
 *     const engine = await openEngine('wasm')           // refused when its gradient does not agree with the reference
 *     const trainer = await engine.load(model)
 *     trainer.begin(parameters)                         // the replica, and an accrued gradient of zero
 *     trainer.step(inputs, labels, count, localRate)    // accrued += g; replica -= localRate·g
 *     await trainer.settled()                           // wait for the device, so that time can be measured
 *     const { gradient, lossSum, correct } = await trainer.finish()
 */
import type { Layout } from '../../../shared/layout.ts'
import type { Topology } from '../../../shared/models.ts'
import type { BackendName } from '../../../shared/protocol.ts'

/** The model blob of a lease, parsed. */
export interface ModelDescription {
  topology: Topology
  layout: Layout
  /** One example's shape: [28, 28, 1]. */
  inputShape: readonly number[]
  classes: number
}

export interface Engine {
  readonly backend: BackendName
  /** For people: "WASM SIMD, 1 thread", "WebGPU (Apple M2)". */
  readonly device: string
  /**
   * @throws Error where the topology does not end in a softmax activation of its own, has other weights than the
   * layout, or holds a layer that draws random numbers.
   */
  load(model: ModelDescription): Promise<Trainer>
  /** Disposes the engine's trainers and gives the device back. */
  close(): Promise<void>
}

/** Every method throws (or rejects with) an Error that names the backend when the device was lost: open another. */
export interface Trainer {
  /** Sets the replica to `parameters` (flat, in layout order; copied) and the accrued gradient, loss and count to zero. */
  begin(parameters: Float32Array): void
  /**
   * One minibatch: g = gradient of the mean cross-entropy of `count` examples at the replica; accrued += g;
   * replica -= localRate·g. `inputs` holds count × Π inputShape floats, `labels` count class indices;
   * both may be used again as soon as it returns.
   */
  step(inputs: Float32Array, labels: Uint8Array, count: number, localRate: number): void
  /** Loss and hits of `count` examples at the replica, added to this lease's sums; no gradient. */
  evaluate(inputs: Float32Array, labels: Uint8Array, count: number): void
  /** Resolves when everything asked so far is computed. */
  settled(): Promise<void>
  /**
   * What this lease came to, in one transfer from the device. `gradient` (flat, layout order) is the sum of the
   * steps' gradients, null when there was no step; it is only valid until the next `begin`.
   */
  finish(): Promise<{ gradient: Float32Array | null; lossSum: number; correct: number }>
  /** The replica as it stands (flat, layout order; a copy), for a lease that continues this one. */
  replica(): Promise<Float32Array>
  dispose(): void
}
