/**
 * Named vectors of the parameters' size, range by range: every range has a WebAssembly memory of its own in which all
 * its vectors lie side by side, so nothing assumes that a model fits in one. Whoever computes with them names them
 * and gets scalars back, as with DistBelief's parameter server (Dean et al. 2012, §4.2): the numbers themselves stay.
 * Every operation goes through the ranges in order: the same calls give the same bits.
 */
import { type Codec, codecs, largestEncoding, payloadSize, rangeOffset } from '../../shared/codec.ts'
import type { CodecName } from '../../shared/codec-names.ts'
import { createKernels, type Kernels } from '../../shared/kernels/kernels.ts'
import { type Range, ranges } from '../../shared/layout.ts'
import type { CheckpointVector } from '../journal/journal.ts'

/** Floats of a block, a multiple of INT8_BLOCK: it stays in a core's cache from when it is decoded until it is used. */
export const BLOCK_FLOATS = 32_768

/** Floats of a slice that are decoded and folded in at a time. */
export interface Block {
  /** The first of them, counted within the slice. */
  readonly from: number
  readonly count: number
}

export interface Slice {
  readonly range: Range
  /** Floats in it. */
  readonly count: number
  readonly kernels: Kernels
  readonly blocks: readonly Block[]
  /** Where a block's bytes are put before they are decoded. */
  readonly encoded: number
  /** A decoded block, until it is added to something. */
  readonly term: number
  /** What the terms of a block add up to. */
  readonly sum: number
  /** Pointers by name. */
  readonly pointers: Map<string, number>
}

export class Vectors {
  readonly size: number
  slices: readonly Slice[]
  /** Names whose vectors are gone, to be used again: a kernel's memory is never freed. */
  private spare: string[] = []

  constructor(size: number) {
    this.size = size
    this.slices = slicesOf(size)
  }

  get names(): string[] {
    return [...(this.slices[0]?.pointers.keys() ?? [])].filter((name) => !this.spare.includes(name))
  }

  has(name: string): boolean {
    return this.names.includes(name)
  }

  /** A vector of this name, every element `value`; one that is there already is filled anew. */
  create(name: string, value = 0): void {
    if (!this.has(name)) {
      const old = this.spare.pop()
      for (const { kernels, count, pointers } of this.slices) {
        const pointer = old === undefined ? kernels.reserve(4 * count) : pointers.get(old)!
        if (old !== undefined) pointers.delete(old)
        pointers.set(name, pointer)
      }
    }
    this.fill(name, value)
  }

  drop(name: string): void {
    if (!this.has(name)) throw new Error(`invariant: there is no vector ${name} to drop`)
    const free = `(free ${this.spare.length})`
    for (const { pointers } of this.slices) {
      pointers.set(free, pointers.get(name)!)
      pointers.delete(name)
    }
    this.spare.push(free)
  }

  /** Gives back the memory of all the others: it is only freed whole, so this one moves to another. */
  keepOnly(name: string): void {
    const others = new Vectors(this.size)
    others.create(name)
    others.write(name, this.read(name))
    this.slices = others.slices
    this.spare = []
  }

  /** target ← value */
  fill(target: string, value: number): void {
    for (const slice of this.slices) slice.kernels.fill(at(slice, target), slice.count, value)
  }

  /** target ← source */
  copy(target: string, source: string): void {
    for (const slice of this.slices) slice.kernels.copy(at(slice, source), slice.count, at(slice, target))
  }

  /** target ← a·target */
  scale(target: string, a: number): void {
    for (const slice of this.slices) slice.kernels.scale(at(slice, target), slice.count, a)
  }

  /** target ← target + a·source */
  axpy(target: string, a: number, source: string): void {
    for (const slice of this.slices) slice.kernels.accumulate(at(slice, target), at(slice, source), slice.count, a)
  }

  /** target ← target⊙source */
  multiply(target: string, source: string): void {
    for (const slice of this.slices) slice.kernels.multiply(at(slice, target), at(slice, source), slice.count)
  }

  /** target ← sign(target)·max(0, |target| − t), the proximal step of t·‖target‖₁. */
  shrink(target: string, t: number): void {
    for (const slice of this.slices) slice.kernels.shrink(at(slice, target), slice.count, t)
  }

  /** Σ aᵢ·bᵢ, in float64. */
  dot(a: string, b: string): number {
    return this.slices.reduce((sum, slice) => sum + slice.kernels.dot(at(slice, a), at(slice, b), slice.count), 0)
  }

  /** Σ |xᵢ|, in float64. */
  sumAbs(name: string): number {
    return this.slices.reduce((sum, slice) => sum + slice.kernels.sumAbs(at(slice, name), slice.count), 0)
  }

  /**
   * target + error ← target + error + weight · what the payload encodes (one vector, or several to be added up), where
   * `error` (zeros at first) takes what the rounding of `target` loses. `axpy(target, 1, error)` at the end gives the
   * sum of however many payloads as if it had been rounded once (kernels.ts, `carry`).
   */
  accumulate(target: string, error: string, codecName: CodecName, payload: Uint8Array, weight: number): void {
    for (const vector of this.vectorsIn(codecName, payload)) {
      for (const slice of this.slices) {
        const [sums, errors] = [at(slice, target), at(slice, error)]
        for (const block of slice.blocks) {
          decode(slice, block, codecName, vector, slice.term)
          const offset = 4 * block.from
          slice.kernels.carry(sums + offset, errors + offset, slice.term, block.count, weight)
        }
      }
    }
  }

  /** target ← what the payload encodes. */
  decode(target: string, codecName: CodecName, payload: Uint8Array): void {
    for (const slice of this.slices) {
      const to = at(slice, target)
      for (const block of slice.blocks) decode(slice, block, codecName, payload, to + 4 * block.from)
    }
  }

  /** Σx² of encoded vectors, in float64; NaN or infinite where an element is not finite. Changes nothing. */
  sumSquares(codecName: CodecName, payload: Uint8Array): number {
    const codec = codecs[codecName]
    let sum = 0
    for (const vector of this.vectorsIn(codecName, payload)) {
      for (const slice of this.slices) {
        for (const block of slice.blocks) {
          put(slice, block, codec, vector)
          sum += codec.sumSquares(slice.kernels, slice.encoded, block.count)
        }
      }
    }
    return sum
  }

  /** The encodings that lie in the payload one after the other. */
  private vectorsIn(codecName: CodecName, payload: Uint8Array): Uint8Array[] {
    const size = payloadSize(codecs[codecName], this.size)
    return Array.from({ length: payload.length / size }, (_, i) => payload.subarray(i * size, (i + 1) * size))
  }

  write(target: string, values: Float32Array): void {
    if (values.length !== this.size) throw new Error(`invariant: a vector here has ${this.size} floats`)
    for (const slice of this.slices) {
      slice.kernels.floats(at(slice, target), slice.count).set(values.subarray(slice.range.from, slice.range.to))
    }
  }

  /** A copy, into `target` where given. */
  read(source: string, target: Float32Array = new Float32Array(this.size)): Float32Array {
    for (const slice of this.slices) {
      target.set(slice.kernels.floats(at(slice, source), slice.count), slice.range.from)
    }
    return target
  }

  /** Everything a checkpoint needs of these, range by range; views, to be written before anything changes. */
  views(names: readonly string[]): CheckpointVector[] {
    return this.slices.flatMap((slice) =>
      names.map((name) => ({
        name,
        range: slice.range.index,
        values: slice.kernels.floats(at(slice, name), slice.count),
      })),
    )
  }

  /** Puts back what `views` gave, creating what is not there. Throws where a range is missing or does not fit. */
  restore(names: readonly string[], saved: readonly CheckpointVector[]): void {
    for (const name of names) if (!this.has(name)) this.create(name)
    const found = new Map(saved.map((vector) => [`${vector.name}/${vector.range}`, vector.values]))
    for (const { name, range, values } of this.views(names)) {
      const from = found.get(`${name}/${range}`)
      if (from?.length !== values.length) throw new Error(`invariant: checkpoint lacks ${name}, range ${range}`)
      values.set(from)
    }
  }
}

function slicesOf(size: number): Slice[] {
  return ranges(size).map((range) => {
    const kernels = createKernels()
    const count = range.to - range.from
    const block = Math.min(count, BLOCK_FLOATS)
    const sizes = [largestEncoding(block), 4 * block, 4 * block]
    const [encoded, term, sum] = sizes.map((bytes) => kernels.reserve(bytes))
    return { range, count, kernels, blocks: blocksOf(count), encoded, term, sum, pointers: new Map() }
  })
}

/** Where the vector lies in the slice's memory. */
export function at({ pointers }: Slice, name: string): number {
  const pointer = pointers.get(name)
  if (pointer === undefined) throw new Error(`invariant: there is no vector ${name}`)
  return pointer
}

/** Memory from `target` on ← the block of what the payload encodes. */
export function decode(slice: Slice, block: Block, codecName: CodecName, payload: Uint8Array, target: number): void {
  const codec = codecs[codecName]
  put(slice, block, codec, payload)
  codec.decode(slice.kernels, slice.encoded, block.count, target)
}

function put({ kernels, encoded, range, count }: Slice, block: Block, codec: Codec, payload: Uint8Array): void {
  const offset = rangeOffset(codec, range.index)
  const bytes = payload.subarray(offset, offset + codec.encodedSize(count))
  const target = kernels.bytes(encoded, codec.encodedSize(block.count))
  codec.cut(bytes, count, block.from, block.from + block.count, target)
}

function blocksOf(count: number): Block[] {
  return Array.from({ length: Math.ceil(count / BLOCK_FLOATS) }, (_, i) => {
    const from = i * BLOCK_FLOATS
    return { from, count: Math.min(BLOCK_FLOATS, count - from) }
  })
}
