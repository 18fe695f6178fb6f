/** The last test of a classifier, example by example. */
import type { Split } from '../datasets/dataset.ts'

export interface Tested {
  /** Of the test examples, from 0. */
  readonly example: number
  readonly label: number
  readonly predicted: number
  /** Cross-entropy, nats. */
  readonly loss: number
}

/** Reads a history's outcomes: a class byte for every test example, then an f32 loss each, little endian. */
export function testedOf(outcomes: Uint8Array, split: Split): Tested[] {
  const count = outcomes.length / 5
  if (count !== split.examples) {
    throw new Error(`invariant: outcomes of ${count} test examples, expected ${split.examples}`)
  }
  const view = new DataView(outcomes.buffer, outcomes.byteOffset, outcomes.byteLength)
  return Array.from({ length: count }, (_, example) => ({
    example,
    label: split.example(example).label,
    predicted: outcomes[example],
    loss: view.getFloat32(count + 4 * example, true),
  }))
}
