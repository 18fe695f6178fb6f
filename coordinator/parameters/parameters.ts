/**
 * The parameters of a stage and their optimizer's state. A gradient step is the same kernel calls in the same order
 * whoever asks, live or on replay: same journal, same bits. Strategies that compute directions of their own work on
 * the named vectors, of which `parameters` is one, and change it within `publish`.
 */
import type { CodecName } from '../../shared/codec-names.ts'
import type { Layout } from '../../shared/layout.ts'
import type { CheckpointVector } from '../journal/journal.ts'
import { ColumnNorms } from './column-norms.ts'
import type { StepScalars, UpdateRule } from './update-rule.ts'
import { at, type Block, decode, type Slice, Vectors } from './vectors.ts'

/**
 * A term of the gradient: weight · decode(payload), or weight · a named vector. It is the sum of the means of so many
 * minibatches, one when absent.
 */
export type GradientPart = { readonly weight: number; readonly minibatches?: number } & (
  | { readonly payload: Uint8Array }
  | { readonly vector: string }
)

/** The vector that a version is. */
export const PARAMETERS = 'parameters'
const GRADIENT = 'gradient'

export interface ParametersOptions {
  /** λ of the L2 cost on kernels, added to the gradient of a minibatch as λ·w. */
  readonly weightCost?: number
  /** Longest vector of weights into one unit. */
  readonly maxNorm?: number
  /** The version that the first parameters are. */
  readonly version?: number
}

export class Parameters {
  readonly size: number
  readonly vectors: Vectors
  /** Published states so far; the first parameters of a run are version 0. */
  version: number
  /** Called before the newest version changes. */
  beforeChange: () => void = () => {}
  /** The version that the first parameters here are: steps are counted from it. */
  readonly first: number
  private readonly rule: UpdateRule
  private readonly weightCost: number
  private readonly columns: ColumnNorms | null
  /** First and past-the-end float of every kernel. */
  private readonly kernelSlots: readonly { readonly from: number; readonly to: number }[]

  constructor(layout: Layout, rule: UpdateRule, initial: Float32Array, options: ParametersOptions = {}) {
    const { weightCost = 0, maxNorm, version = 0 } = options
    this.size = layout.size
    this.version = version
    this.first = version
    this.rule = rule
    this.weightCost = weightCost
    this.vectors = new Vectors(layout.size)
    this.vectors.create(PARAMETERS)
    this.vectors.write(PARAMETERS, initial)
    for (const name of rule.state) this.vectors.create(name, rule.initialState)
    this.columns = maxNorm === undefined ? null : new ColumnNorms(layout, maxNorm)
    this.kernelSlots = layout.slots
      .filter(({ name }) => name.endsWith('/kernel'))
      .map(({ offset, size }) => ({ from: offset, to: offset + size }))
  }

  /**
   * Norm² of an encoded update, of one vector or two, in float64; NaN or infinite where an element is not finite.
   * Changes nothing.
   */
  sumSquares(codec: CodecName, payload: Uint8Array): number {
    return this.vectors.sumSquares(codec, payload)
  }

  /** A change of the vector `parameters` that becomes the next version. */
  publish(change: () => void): void {
    this.beforeChange()
    change()
    this.version++
  }

  /**
   * gradient = Σ weight·(part + minibatches·λ·w) in this order; the rule's step; a new version. Block by block, so that
   * nothing of the gradient leaves the cache: of a large model only the parameters and the rule's state go through
   * memory.
   */
  apply(codec: CodecName, parts: readonly GradientPart[], scalars: Omit<StepScalars, 'weight' | 'step'>): void {
    const alone = parts.length === 1 && this.weightCost === 0
    const minibatches = parts.reduce((total, part) => total + part.weight * (part.minibatches ?? 1), 0)
    const cost = minibatches * this.weightCost
    const step = { ...scalars, weight: alone ? parts[0].weight : 1, step: this.version + 1 - this.first }
    this.publish(() => {
      for (const slice of this.vectors.slices) {
        for (const block of slice.blocks) {
          const gradient = alone ? term(slice, block, codec, parts[0]) : this.sum(slice, block, codec, parts, cost)
          const pointer = (name: string) => (name === GRADIENT ? gradient : at(slice, name) + 4 * block.from)
          this.rule.step(slice.kernels, block.count, pointer, step)
        }
      }
      this.columns?.limit(this.vectors, PARAMETERS)
    })
  }

  /** Where the weighted sum of the parts lies, for one block, with `cost` times the kernels' weights. */
  private sum(slice: Slice, block: Block, codec: CodecName, parts: readonly GradientPart[], cost: number): number {
    const { kernels, sum } = slice
    kernels.fill(sum, block.count, 0)
    for (const part of parts) kernels.accumulate(sum, term(slice, block, codec, part), block.count, part.weight)
    if (cost !== 0) this.addWeightCost(slice, block, cost)
    return sum
  }

  private addWeightCost(slice: Slice, block: Block, cost: number): void {
    const first = slice.range.from + block.from
    for (const slot of this.kernelSlots) {
      const from = Math.max(slot.from, first)
      const count = Math.min(slot.to, first + block.count) - from
      if (count <= 0) continue
      const weights = at(slice, PARAMETERS) + 4 * (from - slice.range.from)
      slice.kernels.accumulate(slice.sum + 4 * (from - first), weights, count, cost)
    }
  }

  /** Of all parameters; finite where each is, since the square of a float32 overflows no float64. */
  get meanSquare(): number {
    return this.vectors.dot(PARAMETERS, PARAMETERS) / this.size
  }

  /** A copy of the parameters as they stand, into `target` when given. */
  snapshot(target: Float32Array = new Float32Array(this.size)): Float32Array {
    return this.vectors.read(PARAMETERS, target)
  }

  /** No step will follow: only the parameters are kept. */
  rest(): void {
    this.vectors.keepOnly(PARAMETERS)
  }

  /** What a checkpoint needs; `more` are vectors that the strategy keeps. Views, to be written before the next step. */
  checkpoint(more: readonly string[] = []): CheckpointVector[] {
    return this.vectors.views([PARAMETERS, ...this.rule.state, ...more])
  }

  /** Puts back what `checkpoint` gave. Throws where a vector is missing or does not fit. */
  restore(version: number, saved: readonly CheckpointVector[], more: readonly string[] = []): void {
    this.vectors.restore([PARAMETERS, ...this.rule.state, ...more], saved)
    this.version = version
  }
}

/** Where the block of what the part is lies, without its weight. */
function term(slice: Slice, block: Block, codec: CodecName, part: GradientPart): number {
  if ('vector' in part) return at(slice, part.vector) + 4 * block.from
  decode(slice, block, codec, part.payload, slice.term)
  return slice.term
}
