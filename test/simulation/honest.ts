/**
 * What an honest volunteer returns: a pure function of its lease, the model and the version's bytes. Two things are
 * learnt. Where minibatches' gradients are averaged over an epoch's shuffled examples, it is a pull towards ½ with
 * noise of the examples' own, and every loss is the same. Where whole passes are summed, it is the true loss and
 * gradient of a convex quadratic for each example, so that a line search finds what it looks for.
 */
import { codecs, decodeVector, encodeVectors } from '../../shared/codec.ts'
import { classifies, type ModelBlob } from '../../shared/models.ts'
import type { Lease, Segment } from '../../shared/protocol.ts'
import { Random, Stream } from '../../shared/random.ts'
import { SHARD_EXAMPLES } from './examples.ts'

export type Task = Pick<
  Lease,
  | 'stage'
  | 'seed'
  | 'shuffled'
  | 'fraction'
  | 'reduce'
  | 'compensated'
  | 'batchSize'
  | 'segments'
  | 'codec'
  | 'parametersCodec'
>
export type Model = Pick<ModelBlob, 'layout' | 'objective'>

export interface Outcome {
  readonly examples: number
  /** null where it is not finite. */
  readonly lossSum: number | null
  readonly correct: number
  readonly measureSum?: number
  readonly payload: Uint8Array
}

/** Of an example that is trained on. */
const LOSS = 2.25

/** Parameters this large have diverged: a test of them comes to no number. */
export const LOST = 1e4

// ---- examples --------------------------------------------------------------------------------------------------

/** Places that the lease's segments are long. */
export function lengthOf({ segments }: Pick<Lease, 'segments'>): number {
  return segments.reduce((sum, { from, to }) => sum + to - from, 0)
}

/** The examples that are taken, in order: each a number of its own, in shuffled order not the one as stored. */
export function taken({ seed, shuffled, fraction, segments }: Task): number[] {
  const examples: number[] = []
  for (const { shardIndex, epoch, from, to } of segments) {
    const sample = new Random(seed, Stream.sample, epoch, shardIndex)
    for (let i = from; i < to; i++) {
      if (shuffled || fraction === 1 || sample.uniform(i) < fraction) examples.push(shardIndex * SHARD_EXAMPLES + i)
    }
  }
  return examples
}

// ---- training --------------------------------------------------------------------------------------------------

/** The lease's first `minibatches` minibatches. */
export function trained(task: Task, { layout: { size } }: Model, bytes: Uint8Array, minibatches: number): Outcome {
  const parameters = decodeVector(codecs[task.parametersCodec], bytes, size)
  const examples = taken(task).slice(0, minibatches * task.batchSize)
  const { lossSum, gradient } = task.shuffled
    ? { lossSum: LOSS * examples.length, gradient: noisy(task, parameters, minibatches) }
    : quadratic(task, parameters, examples)
  const vectors = new Float32Array(task.compensated ? 2 * size : size)
  vectors.set(gradient)
  if (task.compensated)
    vectors.set(
      Float32Array.from(gradient, (value, i) => value - vectors[i]),
      size,
    )
  const payload = encodeVectors(codecs[task.codec], vectors, size)
  return { examples: examples.length, lossSum, correct: 0, payload }
}

function noisy({ seed, stage, segments }: Task, parameters: Float32Array, minibatches: number): Float32Array {
  const path = segments.flatMap(({ shardIndex, epoch, from, to }) => [shardIndex, epoch, from, to])
  const random = new Random(seed, stage, ...path)
  return parameters.map((value, i) => minibatches * (0.2 * (value - 0.5) + 0.3 * (2 * random.uniform(i) - 1)))
}

const curvature = (example: number, i: number) => (1 + (i % 4)) * (0.5 + ((example * 31 + i * 17) % 16) / 16)
/**
 * The minimum, around an eighth in every coordinate: so near that the first loss is like that of a model that knows
 * nothing.
 */
const centre = (example: number, i: number) => (2 + ((example * 7 + i * 13) % 19) / 9.5) / 24

/** The loss of half of the runs has an end: who goes further than this learns nothing there. */
const edgeOf = (seed: number) => (seed % 2 === 0 ? 4 / 24 : 1e15)

/** Σ ½h(w − c)² over the examples, and the gradient's sum: of the examples', or of the means of blocks of them. */
function quadratic(
  { seed, batchSize, reduce }: Task,
  parameters: Float32Array,
  examples: readonly number[],
): { lossSum: number | null; gradient: Float64Array } {
  const edge = edgeOf(seed)
  // Nothing may be read from the vector beside such a loss.
  const outside = { lossSum: null, gradient: Float64Array.from(parameters, () => Number.NaN) }
  if (!parameters.every((value) => Math.abs(value) <= edge)) return outside
  const sum = new Float64Array(parameters.length)
  let lossSum = 0
  examples.forEach((example, place) => {
    const block = Math.floor(place / batchSize) * batchSize
    const weight = reduce === 'sum' ? 1 : 1 / (Math.min(examples.length, block + batchSize) - block)
    parameters.forEach((value, i) => {
      const [h, c] = [curvature(example, i), centre(example, i)]
      lossSum += 0.5 * h * (value - c) ** 2
      sum[i] += weight * h * (value - c)
    })
  })
  return Number.isFinite(lossSum) ? { lossSum, gradient: sum } : outside
}

// ---- evaluation ------------------------------------------------------------------------------------------------

/** Whether the segment is of the test examples: their shards have names of their own (examples.ts). */
const ofTest = ({ shard }: Segment) => Number.parseInt(shard, 16) >= 2_000_000

/** What every example's second measure is at a version. */
export function measureAt(kind: Model['objective']['kind'], version: number, test: boolean): number | undefined {
  if (kind === 'classify') return undefined
  if (kind === 'reconstruct') return 2
  // Gaps between free energies that now grow, now shrink; halves and eighths, so that sums are exact.
  return test ? ((version * 7) % 11) / 8 : 0.5
}

/** Class and loss of a test example. */
const classAt = (example: number): number => (example * 5) % 3
export const lossAt = (example: number): number => example / 4

/** Of so many test examples, their outcomes as the wire has them: all classes, then all losses. */
export function outcomesOf(examples: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(5 * examples.length)
  const view = new DataView(bytes.buffer)
  examples.forEach((example, i) => {
    bytes[i] = classAt(example)
    view.setFloat32(examples.length + 4 * i, lossAt(example), true)
  })
  return bytes
}

/** A test: every loss is 1, and of a classifier those with an even number are right. */
export function evaluated(
  task: Task,
  { layout, objective }: Model,
  bytes: Uint8Array,
  version: number,
  tellsOutcomes: boolean,
): Outcome {
  const examples = taken(task)
  const test = ofTest(task.segments[0])
  const parameters = decodeVector(codecs[task.parametersCodec], bytes, layout.size)
  const lost = !parameters.every((value) => Math.abs(value) <= LOST)
  const tellsClasses = classifies(objective)
  const measure = measureAt(objective.kind, version, test)
  return {
    examples: examples.length,
    lossSum: lost ? null : examples.length,
    correct: tellsClasses ? examples.filter((example) => example % 2 === 0).length : 0,
    ...(measure === undefined ? {} : { measureSum: measure * examples.length }),
    payload: tellsClasses && tellsOutcomes ? outcomesOf(examples) : new Uint8Array(),
  }
}
