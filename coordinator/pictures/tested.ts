/** The last test of a classifier, example by example. */
import { Outcomes } from '../../shared/outcomes.ts'
import type { Split } from '../datasets/dataset.ts'

export interface Tested {
  /** Of the test examples, from 0. */
  readonly example: number
  readonly label: number
  readonly predicted: number
  /** Cross-entropy, nats. */
  readonly loss: number
}

/** Reads a history's outcomes of every test example. */
export function testedOf(outcomes: Uint8Array, split: Split): Tested[] {
  const found = new Outcomes(outcomes)
  const { count } = found
  if (count !== split.examples) {
    throw new Error(`invariant: outcomes of ${count} test examples, expected ${split.examples}`)
  }
  return Array.from({ length: count }, (_, example) => ({
    example,
    label: split.example(example).label,
    predicted: found.classOf(example),
    loss: found.lossOf(example),
  }))
}
