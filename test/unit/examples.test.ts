/** Shards on a volunteer: fetched ahead, unpacked, cut into the minibatches that a lease asks for. */
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ExampleLease, Examples, unpackShard } from '../../client/volunteer/examples.ts'
import type { Split } from '../../coordinator/datasets/dataset.ts'
import { sampled } from '../../coordinator/run/shards.ts'
import { Random, Stream } from '../../shared/random.ts'
import { elementsOf } from '../../shared/shape.ts'
import { encodeShard, type Shard } from '../../shared/shard.ts'

/** Every input byte and label tells which shard and example it is of. */
function shardOf(index: number, examples: number, inputShape = [2, 1]): Shard {
  const features = elementsOf(inputShape)
  return {
    examples,
    inputShape,
    inputs: Uint8Array.from({ length: examples * features }, (_, i) => (7 * index + i) & 255),
    labels: Uint8Array.from({ length: examples }, (_, i) => (3 * index + i) & 255),
  }
}

const segments = fc.array(
  fc
    .record({
      shardIndex: fc.integer({ min: 0, max: 4 }),
      epoch: fc.integer({ min: 0, max: 3 }),
      examples: fc.integer({ min: 1, max: 40 }),
      a: fc.nat(),
      b: fc.nat(),
    })
    .map(({ shardIndex, epoch, examples, a, b }) => {
      const [from, to] = [a % (examples + 1), b % (examples + 1)].sort((x, y) => x - y)
      return { segment: { shard: '0'.repeat(64), shardIndex, epoch, from, to }, shard: shardOf(shardIndex, examples) }
    }),
  { minLength: 1, maxLength: 5 },
)

const leaseOf = (change: Partial<ExampleLease>): ExampleLease => ({
  ...{ kind: 'gradient', stage: 0, seed: 1, shuffled: true, fraction: 1, batchSize: 4, segments: [] },
  ...change,
})

describe('the examples of a lease', () => {
  test.each([true, false])(
    '[E4] are what a plain reference says, in its order, with its keys (shuffled: %s)',
    (shuffled) => {
      fc.assert(
        fc.property(
          segments,
          fc.integer({ min: 1, max: 17 }),
          fc.integer({ min: 0, max: 9 }),
          fc.integer({ min: 0, max: 2 }),
          fc.constantFrom(1, 0.5, 0.1),
          (parts, batchSize, seed, stage, fraction) => {
            const reference = parts.flatMap(({ segment, shard }) => {
              const order = new Random(seed, Stream.shuffle, segment.epoch, segment.shardIndex).permutation(
                shard.examples,
              )
              const positions = Array.from({ length: segment.to - segment.from }, (_, i) => segment.from + i)
              const { epoch, shardIndex } = segment
              const examples = positions.map((position) => (shuffled ? order[position] : position))
              const sample = new Random(seed, Stream.sample, epoch, shardIndex)
              const taken = examples.filter((example) => sample.uniform(example) < fraction)
              return taken.map((example) => {
                const { key0, key1 } = new Random(seed, Stream.lease, stage, epoch, shardIndex, example)
                return {
                  inputs: [...shard.inputs.subarray(2 * example, 2 * example + 2)].map((byte) =>
                    Math.fround(byte / 255),
                  ),
                  label: shard.labels[example],
                  key: [key0, key1],
                }
              })
            })
            const of = { shuffled, seed, stage, fraction, batchSize }
            const lease = leaseOf({ ...of, segments: parts.map(({ segment }) => segment) })
            const examples = new Examples(
              lease,
              parts.map(({ shard }) => shard),
            )
            expect(examples.count).toBe(reference.length)
            const counts: number[] = []
            const got: typeof reference = []
            for (const { inputs, labels, keys, count } of examples.minibatches()) {
              counts.push(count)
              expect(inputs.length).toBe(2 * count)
              expect(labels.length).toBe(count)
              expect(keys.length).toBe(2 * count)
              for (let i = 0; i < count; i++) {
                const pair = (of: Iterable<number>) => [...of].slice(2 * i, 2 * i + 2)
                got.push({ inputs: pair(inputs), label: labels[i], key: pair(keys) })
              }
            }
            expect(got).toEqual(reference)
            // All are full but perhaps the last.
            expect(counts.slice(0, -1).every((count) => count === batchSize)).toBe(true)
          },
        ),
      )
    },
  )

  test('of an empty sample are none, in no minibatch', () => {
    const segment = { shard: '0'.repeat(64), shardIndex: 0, epoch: 0, from: 0, to: 10 }
    const examples = new Examples(leaseOf({ segments: [segment], fraction: 1e-9 }), [shardOf(0, 10)])
    expect(examples.count).toBe(0)
    expect([...examples.minibatches()]).toEqual([])
  })

  test('are changed for training where the model says so, and for nothing else', () => {
    const segment = { shard: '0'.repeat(64), shardIndex: 0, epoch: 0, from: 0, to: 10 }
    const shard = shardOf(1, 10, [6, 5, 1])
    const augment = { shift: 2, rotate: 10, zoom: 0.1, flip: true }
    const of = (change: Partial<ExampleLease>, how: typeof augment | null = augment) => {
      const examples = new Examples(leaseOf({ segments: [segment], batchSize: 10, ...change }), [shard], how)
      const all: number[] = []
      for (const { inputs } of examples.minibatches()) all.push(...inputs)
      return all
    }
    const plain = of({}, null)
    expect(of({})).not.toEqual(plain)
    expect(of({})).toEqual(of({}))
    expect(of({ stage: 1 })).not.toEqual(of({}))
    expect(of({ kind: 'evaluate' })).toEqual(plain)
    // The same picture whatever else is in the minibatch.
    expect(of({ batchSize: 3 })).toEqual(of({}))
    expect(() => new Examples(leaseOf({ segments: [segment] }), [shardOf(0, 10)], augment)).not.toThrow()
    expect(() => new Examples(leaseOf({ segments: [segment] }), [shardOf(0, 10, [4])], augment)).toThrow(
      'only images can be augmented',
    )
  })

  test('a lease that asks for more than its shard holds is an error that says so', () => {
    const segment = { shard: '0'.repeat(64), shardIndex: 0, epoch: 0, from: 5, to: 11 }
    const lease = leaseOf({ segments: [segment] })
    expect(() => new Examples(lease, [shardOf(0, 10)])).toThrow('examples 5 to 11 of a shard of 10')
  })

  test('shards of different shapes do not mix', () => {
    const segment = { shard: '0'.repeat(64), shardIndex: 0, epoch: 0, from: 0, to: 2 }
    const lease = leaseOf({ segments: [segment, segment] })
    expect(() => new Examples(lease, [shardOf(0, 10), shardOf(1, 10, [3])])).toThrow('different shapes')
  })
})

describe('a shard blob', () => {
  test('unpacks to what was packed', async () => {
    const shard = shardOf(3, 1000, [28, 28, 1])
    const unpacked = await unpackShard(gzipSync(encodeShard(shard)))
    expect({ examples: unpacked.examples, inputShape: unpacked.inputShape }).toEqual({
      examples: 1000,
      inputShape: [28, 28, 1],
    })
    expect(Buffer.compare(unpacked.inputs, shard.inputs)).toBe(0)
    expect(Buffer.compare(unpacked.labels, shard.labels)).toBe(0)
  })

  test('that is not one is an error', async () => {
    await expect(unpackShard(gzipSync(new Uint8Array(20)))).rejects.toThrow('not a shard')
    await expect(unpackShard(new Uint8Array([1, 2, 3]))).rejects.toThrow()
  })
})

test('[Y3] a Bernoulli sample has its fraction of the examples on average, however they are cut', () => {
  const [examples, seed, fraction, passes] = [1000, 7, 0.3, 200]
  const split = { examples, shardSize: 300 } as Split
  let taken = 0
  for (let pass = 0; pass < passes; pass++) {
    const whole = sampled(split, seed, pass, fraction, { from: 0, to: examples })
    const cuts = [0, 1, 299, 300, 450, 777, examples]
    const parts = cuts.slice(1).map((to, i) => sampled(split, seed, pass, fraction, { from: cuts[i], to }))
    expect(parts.reduce((sum, part) => sum + part, 0)).toBe(whole)
    taken += whole
  }
  const expected = passes * examples * fraction
  expect(Math.abs(taken - expected)).toBeLessThan(4 * Math.sqrt(expected * (1 - fraction)))
})
