/**
 * The layout: where each named parameter tensor lies in the one flat vector of a model, and how that vector is
 * cut into ranges. Every loop over parameters goes range by range: a range is the unit of a kernel's work, of
 * encoding and of a stored row, so nothing assumes that a model fits in one message, one database row or one
 * WebAssembly memory.
 */
import { Random, Stream } from './random.ts'
import { elementsOf } from './shape.ts'

/** How a tensor is first filled. */
export type Initializer =
  | { kind: 'zeros' }
  /**
   * U(-limit, limit). A convolution's kernel [height, width, inputs, filters] may have a table of `connections`: for
   * each filter the input maps that it reads. What is outside the table is zero, and the trainer keeps it so.
   */
  | { kind: 'uniform'; limit: number; connections?: readonly (readonly number[])[] }
  /** N(0, sd²) */
  | { kind: 'normal'; sd: number }

export interface Slot {
  /** As tfjs names it: `layer/kernel`, `layer/bias`. */
  readonly name: string
  readonly shape: readonly number[]
  /** First element in the flat vector, in floats. */
  readonly offset: number
  /** Number of floats. */
  readonly size: number
  readonly init: Initializer
}

export interface Layout {
  readonly slots: readonly Slot[]
  /** Floats in the whole vector. */
  readonly size: number
}

/** Floats in a range (1 MiB of float32); the last range of a vector is shorter. A multiple of every codec's block. */
export const RANGE_FLOATS = 1 << 18

export interface Range {
  readonly index: number
  /** First float. */
  readonly from: number
  /** One past the last float. */
  readonly to: number
}

export function layout(tensors: readonly { name: string; shape: readonly number[]; init: Initializer }[]): Layout {
  let offset = 0
  const slots = tensors.map(({ name, shape, init }) => {
    const size = elementsOf(shape)
    const slot: Slot = { name, shape, offset, size, init }
    offset += size
    return slot
  })
  return { slots, size: offset }
}

/** The ranges of a vector of `size` floats, in order. */
export function ranges(size: number): Range[] {
  const cut: Range[] = []
  for (let from = 0; from < size; from += RANGE_FLOATS) {
    cut.push({ index: cut.length, from, to: Math.min(size, from + RANGE_FLOATS) })
  }
  return cut
}

/** The first parameters of a run: a pure function of the layout and the seed, the same bits on every machine. */
export function initialParameters(of: Layout, seed: number): Float32Array {
  const parameters = new Float32Array(of.size)
  of.slots.forEach((slot, index) => {
    const { init } = slot
    if (init.kind === 'zeros') return
    const random = new Random(seed, Stream.parameters, index)
    for (let i = 0; i < slot.size; i++) {
      if (!isConnected(slot, i)) continue
      parameters[slot.offset + i] =
        init.kind === 'normal' ? init.sd * random.normal(i) : (2 * random.uniform(i) - 1) * init.limit
    }
  })
  return parameters
}

/** Whether the slot's `i`-th element is in its table of connections; true where there is none. */
export function isConnected({ init, shape }: Slot, i: number): boolean {
  if (init.kind !== 'uniform' || init.connections === undefined) return true
  const [inputs, filters] = shape.slice(-2)
  return init.connections[i % filters].includes(Math.floor(i / filters) % inputs)
}
