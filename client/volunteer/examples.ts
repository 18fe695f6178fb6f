/**
 * The examples of a lease as minibatches of floats. A lease names stretches of shards; its minibatches are those
 * stretches one after the other, `batchSize` at a time, so a minibatch may span two shards and the last may be short.
 *
 * A stretch counts in the epoch's shuffled order of its shard, which is a pure function of the run's seed, the epoch
 * and the shard, or in the order as stored; of it all are taken or a random sample. Each example comes with its
 * draw key, and is changed at random for training where the model says so. So everybody who holds the lease feeds the
 * same numbers in the same order.
 */
import type { Augmentation } from '../../shared/models.ts'
import type { Lease, Segment } from '../../shared/protocol.ts'
import { Random, Stream } from '../../shared/random.ts'
import { elementsOf } from '../../shared/shape.ts'
import { decodeShard, type Shard } from '../../shared/shard.ts'
import { Augmenter } from './augment.ts'
import type { Minibatch } from './compute/engine.ts'
import { Recent } from './recent.ts'

/** An input byte b stands for b/255, as a float32. */
const UNIT = Float32Array.from({ length: 256 }, (_, byte) => byte / 255)

/** A decoded shard larger than this is not taken: gzip can make a gigabyte of a megabyte. */
const MAX_SHARD_BYTES = 512 * 1024 * 1024

/** Several leases in a row take from the same shard in the same epoch. */
const orders = new Recent<string, Uint32Array>(16, () => 1)

/** What of a lease says which examples, in which order. */
export type ExampleLease = Pick<Lease, 'kind' | 'stage' | 'seed' | 'shuffled' | 'fraction' | 'batchSize' | 'segments'>

/** One segment: which examples of its shard, in order, as places in the shard as stored. */
interface Places {
  readonly shard: Shard
  readonly places: Uint32Array
  /** What the examples' draw keys branch off. */
  readonly random: Random
}

export class Examples {
  /** Of those taken. */
  readonly count: number
  readonly batchSize: number
  private readonly segments: readonly Places[]
  private readonly features: number
  private readonly augmenter: Augmenter | null
  private readonly inputs: Float32Array
  private readonly labels: Uint8Array
  private readonly keys: Uint32Array

  /** `shards` hold the lease's segments, one for each. Throws where they do not. */
  constructor(lease: ExampleLease, shards: readonly Shard[], augment: Augmentation | null = null) {
    this.batchSize = lease.batchSize
    this.segments = lease.segments.map((segment, i) => placesOf(lease, segment, shards[i]))
    this.count = this.segments.reduce((sum, { places }) => sum + places.length, 0)
    const [{ inputShape }] = shards
    this.features = elementsOf(inputShape)
    if (shards.some(({ inputs, examples }) => inputs.length !== examples * this.features)) {
      throw new Error('the shards of one lease hold examples of different shapes')
    }
    this.augmenter = augment && lease.kind === 'gradient' ? new Augmenter(augment, inputShape) : null
    const largest = Math.min(this.batchSize, this.count)
    this.inputs = new Float32Array(largest * this.features)
    this.labels = new Uint8Array(largest)
    this.keys = new Uint32Array(2 * largest)
  }

  /** The minibatches in order, each in the same memory. */
  *minibatches(): Generator<Minibatch> {
    let filled = 0
    for (const { shard, places, random } of this.segments) {
      for (const place of places) {
        random.branch(place, this.keys, 2 * filled)
        this.copy(shard, place, filled++)
        if (filled === this.batchSize) {
          yield this.first(filled)
          filled = 0
        }
      }
    }
    if (filled > 0) yield this.first(filled)
  }

  private copy(shard: Shard, example: number, place: number): void {
    const { features, inputs, keys } = this
    const source = shard.inputs
    let from = example * features
    let to = place * features
    for (const end = from + features; from < end; from++, to++) inputs[to] = UNIT[source[from]]
    this.labels[place] = shard.labels[example]
    const image = this.augmenter && inputs.subarray(place * features, to)
    if (image) this.augmenter!.apply(image, { key0: keys[2 * place], key1: keys[2 * place + 1] })
  }

  private first(count: number): Minibatch {
    return {
      inputs: this.inputs.subarray(0, count * this.features),
      labels: this.labels.subarray(0, count),
      keys: this.keys.subarray(0, 2 * count),
      count,
    }
  }
}

function placesOf({ stage, seed, shuffled, fraction }: ExampleLease, segment: Segment, shard: Shard): Places {
  const { epoch, shardIndex, from, to } = segment
  if (from > to || to > shard.examples) {
    throw new Error(`the lease asks for examples ${from} to ${to} of a shard of ${shard.examples}`)
  }
  let places = shuffled
    ? shuffledOrder(seed, segment, shard.examples).subarray(from, to)
    : Uint32Array.from({ length: to - from }, (_, i) => from + i)
  if (fraction < 1) {
    const sample = new Random(seed, Stream.sample, epoch, shardIndex)
    places = places.filter((place) => sample.uniform(place) < fraction)
  }
  return { shard, places, random: new Random(seed, Stream.lease, stage, epoch, shardIndex) }
}

function shuffledOrder(
  seed: number,
  { epoch, shardIndex }: { epoch: number; shardIndex: number },
  examples: number,
): Uint32Array {
  const key = `${seed} ${epoch} ${shardIndex} ${examples}`
  let order = orders.get(key)
  if (order === undefined) {
    order = new Random(seed, Stream.shuffle, epoch, shardIndex).permutation(examples)
    orders.set(key, order)
  }
  return order
}

/** A shard from its blob. */
export async function unpackShard(compressed: Uint8Array): Promise<Shard> {
  const source = new Blob([compressed as Uint8Array<ArrayBuffer>]).stream()
  const parts: Uint8Array[] = []
  let size = 0
  const reader = source.pipeThrough(new DecompressionStream('gzip')).getReader()
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    size += part.value.length
    if (size > MAX_SHARD_BYTES) {
      await reader.cancel()
      throw new Error(`a shard of more than ${MAX_SHARD_BYTES} bytes is not taken`)
    }
    parts.push(part.value)
  }
  const bytes = new Uint8Array(size)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return decodeShard(bytes)
}
