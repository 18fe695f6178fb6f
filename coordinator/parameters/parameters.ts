/**
 * The parameters of a run and their optimizer's state, range by range: every range has a WebAssembly memory of its
 * own in which all its vectors lie side by side, so nothing assumes that a model fits in one. A step is the same
 * kernel calls in the same order whoever asks, live or on replay: same journal, same bits.
 */
import { codecs, rangeOffset } from '../../shared/codec.ts'
import { createKernels, type Kernels } from '../../shared/kernels/kernels.ts'
import { type Layout, type Range, ranges } from '../../shared/layout.ts'
import type { CodecName } from '../../shared/run-spec.ts'
import type { CheckpointVector } from '../journal/journal.ts'
import type { UpdateRule } from './update-rule.ts'

interface Slice {
  readonly range: Range
  readonly kernels: Kernels
  /** Pointer of the parameters, and of each state vector by name. */
  readonly parameters: number
  readonly state: Map<string, number>
  /** Where a payload's bytes are put, and the gradient it decodes to. */
  readonly encoded: number
  readonly gradient: number
}

/** A term of the gradient: weight · decode(payload). */
export interface GradientPart {
  readonly payload: Uint8Array
  readonly weight: number
}

export class Parameters {
  readonly size: number
  /** Published states so far; the initial parameters are version 0. */
  version: number
  private readonly rule: UpdateRule
  private readonly slices: Slice[]

  constructor(layout: Layout, rule: UpdateRule, initial: Float32Array) {
    this.size = layout.size
    this.version = 0
    this.rule = rule
    this.slices = ranges(layout.size).map((range) => slice(range, rule.state))
    for (const { kernels, parameters, range } of this.slices) {
      kernels.floats(parameters, range.to - range.from).set(initial.subarray(range.from, range.to))
    }
    for (const { kernels, state, range } of this.slices) {
      for (const pointer of state.values()) kernels.floats(pointer, range.to - range.from).fill(rule.initialState)
    }
  }

  /** Norm² of an encoded update, in float64; NaN or infinite where an element is not finite. Changes nothing. */
  sumSquares(codecName: CodecName, payload: Uint8Array): number {
    const codec = codecs[codecName]
    let sum = 0
    for (const { kernels, encoded, range } of this.slices) {
      const count = range.to - range.from
      put(kernels, encoded, payload, rangeOffset(codec, range.index), codec.encodedSize(count))
      sum += codec.sumSquares(kernels, encoded, count)
    }
    return sum
  }

  /** gradient = Σ weight·decode(payload) in this order; the rule's step at `rate`; a new version. */
  apply(codecName: CodecName, parts: readonly GradientPart[], rate: number): void {
    const codec = codecs[codecName]
    const step = this.version + 1
    for (const { kernels, encoded, gradient, parameters, state, range } of this.slices) {
      const count = range.to - range.from
      const decode = (payload: Uint8Array, target: number) => {
        put(kernels, encoded, payload, rangeOffset(codec, range.index), codec.encodedSize(count))
        codec.decode(kernels, encoded, count, target)
      }
      if (parts.length === 1) {
        decode(parts[0].payload, gradient)
        this.rule.step(kernels, parameters, gradient, state, count, rate, parts[0].weight, step)
      } else {
        kernels.fill(gradient, count, 0)
        const term = this.scratch(kernels, range)
        for (const { payload, weight } of parts) {
          decode(payload, term)
          kernels.accumulate(gradient, term, count, weight)
        }
        this.rule.step(kernels, parameters, gradient, state, count, rate, 1, step)
      }
    }
    this.version = step
  }

  /** A copy of the parameters as they stand, into `target` when given. */
  snapshot(target: Float32Array = new Float32Array(this.size)): Float32Array {
    for (const { kernels, parameters, range } of this.slices) {
      target.set(kernels.floats(parameters, range.to - range.from), range.from)
    }
    return target
  }

  /** Everything a checkpoint needs, range by range; the arrays are views, to be written before the next step. */
  vectors(): CheckpointVector[] {
    return this.slices.flatMap(({ kernels, parameters, state, range }) => {
      const view = (name: string, pointer: number) => ({
        name,
        range: range.index,
        values: kernels.floats(pointer, range.to - range.from),
      })
      return [view('parameters', parameters), ...[...state].map(([name, pointer]) => view(name, pointer))]
    })
  }

  /** Puts back what `vectors` gave. Throws where a vector is missing or does not fit. */
  restore(version: number, vectors: readonly CheckpointVector[]): void {
    const found = new Map(vectors.map((vector) => [`${vector.name}/${vector.range}`, vector.values]))
    for (const { name, range, values } of this.vectors()) {
      const saved = found.get(`${name}/${range}`)
      if (saved?.length !== values.length) throw new Error(`invariant: checkpoint lacks ${name}, range ${range}`)
      values.set(saved)
    }
    this.version = version
  }

  private readonly scratches = new Map<number, number>()

  /** A second gradient-sized vector, only reserved where a step has several parts. */
  private scratch(kernels: Kernels, range: Range): number {
    let pointer = this.scratches.get(range.index)
    if (pointer === undefined) {
      pointer = kernels.reserve(4 * (range.to - range.from))
      this.scratches.set(range.index, pointer)
    }
    return pointer
  }
}

function slice(range: Range, names: readonly string[]): Slice {
  const kernels = createKernels()
  const bytes = 4 * (range.to - range.from)
  return {
    range,
    kernels,
    parameters: kernels.reserve(bytes),
    state: new Map(names.map((name) => [name, kernels.reserve(bytes)])),
    encoded: kernels.reserve(codecs.f32.encodedSize(range.to - range.from)),
    gradient: kernels.reserve(bytes),
  }
}

function put(kernels: Kernels, pointer: number, payload: Uint8Array, offset: number, length: number): void {
  kernels.bytes(pointer, length).set(payload.subarray(offset, offset + length))
}
