/**
 * shared/random.ts: the published Philox4x32-10 vectors, uniformity, and that a draw depends on nothing but its name.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { philox, Random, Stream } from '../../shared/random.ts'

const hex = (words: Uint32Array) => [...words].map((word) => word.toString(16).padStart(8, '0')).join(' ')

/** Philox4x32-10 with 64-bit integers throughout, as the paper writes it. */
function oracle(counter: number[], key: number[]): bigint[] {
  let [x0, x1, x2, x3] = counter.map(BigInt)
  let [k0, k1] = key.map(BigInt)
  for (let round = 0; round < 10; round++) {
    const a = 0xd2511f53n * x0
    const b = 0xcd9e8d57n * x2
    const next = [(b >> 32n) ^ x1 ^ k0, b & 0xffffffffn, (a >> 32n) ^ x3 ^ k1, a & 0xffffffffn]
    x0 = next[0]
    x1 = next[1]
    x2 = next[2]
    x3 = next[3]
    k0 = (k0 + 0x9e3779b9n) & 0xffffffffn
    k1 = (k1 + 0xbb67ae85n) & 0xffffffffn
  }
  return [x0, x1, x2, x3]
}

const u32 = fc.integer({ min: 0, max: 0xffffffff })

describe('philox', () => {
  it('gives the known answers of Random123 (kat_vectors, philox4x32 10)', () => {
    const out = new Uint32Array(4)
    expect(hex(philox(out, 0, 0, 0, 0, 0, 0))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8')
    const ones = 0xffffffff
    expect(hex(philox(out, ones, ones, ones, ones, ones, ones))).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd')
    expect(hex(philox(out, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0))).toBe(
      'd16cfe09 94fdcceb 5001e420 24126ea1',
    )
  })

  it('agrees with a 64-bit oracle on any counter and key', () => {
    fc.assert(
      fc.property(fc.tuple(u32, u32, u32, u32), fc.tuple(u32, u32), ([a, b, c, d], [k, l]) => {
        const out = philox(new Uint32Array(4), a, b, c, d, k, l)
        expect([...out].map(BigInt)).toEqual(oracle([a, b, c, d], [k, l]))
      }),
    )
  })
})

describe('Random', () => {
  it('draws word index mod 4 of block index div 4, under a key made of seed and path', () => {
    fc.assert(
      fc.property(
        fc.maxSafeNat(),
        fc.array(u32, { maxLength: 3 }),
        fc.oneof(fc.nat(100), fc.maxSafeNat()),
        (seed, path, index) => {
          let key = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)]
          path.forEach((step, depth) => {
            key = oracle([step, depth, 0x63726f77, 0x64677264], key).slice(0, 2).map(Number)
          })
          const block = Math.floor(index / 4)
          const words = oracle([block % 2 ** 32, Math.floor(block / 2 ** 32), 0, 0], key)
          expect(new Random(seed, ...path).u32(index)).toBe(Number(words[index % 4]))
        },
      ),
    )
  })

  it('gives the same draws in any order and however often', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.array(fc.nat(50), { maxLength: 60 }), (seed, order) => {
        const used = new Random(seed, Stream.lease, 3)
        for (const index of order) {
          expect(used.u32(index)).toBe(new Random(seed, Stream.lease, 3).u32(index))
        }
      }),
    )
  })

  it('branches to the generator one step further, and draws on as before', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.array(u32, { maxLength: 4 }), u32, (seed, path, step) => {
        const random = new Random(seed, ...path)
        const before = random.u32(1)
        const keys = new Uint32Array(4)
        random.branch(step, keys, 2)
        const further = new Random(seed, ...path, step)
        expect([...keys]).toEqual([0, 0, further.key0, further.key1])
        expect(random.u32(1)).toBe(before)
        expect(new Random(further).u32(5)).toBe(further.u32(5))
      }),
    )
  })

  it('gives other draws for another seed, stream or path', () => {
    const first = (...of: [number, ...number[]]) => new Random(...of).u32(0)
    const draws = [
      first(1),
      first(2),
      first(1 + 2 ** 32),
      ...Object.values(Stream).map((stream) => first(1, stream)),
      first(1, Stream.shuffle, 0),
      first(1, Stream.shuffle, 1),
      first(1, Stream.shuffle, 0, 0),
      first(1, Stream.shuffle, 1, 0),
      first(1, Stream.shuffle, 0, 1),
    ]
    expect(new Set(draws).size).toBe(draws.length)
  })

  it('is uniform: 256 cells, mean, variance and lag correlation within five standard errors', () => {
    const n = 1 << 18
    const random = new Random(20260101, Stream.sample)
    const cells = new Float64Array(256)
    let sum = 0
    let squares = 0
    let lagged = 0
    let previous = 0.5
    let outside = 0
    for (let i = 0; i < n; i++) {
      const x = random.uniform(i)
      if (!(x >= 0 && x < 1)) outside++
      cells[Math.floor(x * 256)]++
      sum += x - 0.5
      squares += (x - 0.5) ** 2
      lagged += (x - 0.5) * (previous - 0.5)
      previous = x
    }
    expect(outside).toBe(0)
    const expected = n / 256
    const chiSquare = cells.reduce((total, count) => total + (count - expected) ** 2 / expected, 0)
    // χ² with 255 degrees of freedom: mean 255, variance 510.
    expect(Math.abs(chiSquare - 255)).toBeLessThan(5 * Math.sqrt(510))
    expect(Math.abs(sum / n)).toBeLessThan(5 * Math.sqrt(1 / 12 / n))
    expect(Math.abs(squares / n - 1 / 12)).toBeLessThan(5 * Math.sqrt(1 / 180 / n))
    expect(Math.abs(lagged / n)).toBeLessThan((5 * (1 / 12)) / Math.sqrt(n))
  })

  it('draws standard normals: mean, variance and tails within five standard errors', () => {
    const n = 1 << 17
    const random = new Random(5, Stream.augment)
    let sum = 0
    let squares = 0
    let beyondTwo = 0
    for (let i = 0; i < n; i++) {
      const x = random.normal(i)
      sum += x
      squares += x * x
      if (Math.abs(x) > 2) beyondTwo++
    }
    const tail = 0.0455002639
    expect(Math.abs(sum / n)).toBeLessThan(5 / Math.sqrt(n))
    expect(Math.abs(squares / n - 1)).toBeLessThan(5 * Math.sqrt(2 / n))
    expect(Math.abs(beyondTwo / n - tail)).toBeLessThan(5 * Math.sqrt((tail * (1 - tail)) / n))
  })

  it('permutes: every number of 0..n-1 once', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(300), (seed, n) => {
        const permutation = new Random(seed, Stream.shuffle).permutation(n)
        expect([...permutation].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i))
      }),
    )
  })

  it('permutes without favour: all 24 orders of four, each as often as the others', () => {
    const n = 24_000
    const counts = new Map<string, number>()
    for (let seed = 0; seed < n; seed++) {
      const order = new Random(seed, Stream.shuffle).permutation(4).join()
      counts.set(order, (counts.get(order) ?? 0) + 1)
    }
    expect(counts.size).toBe(24)
    const chiSquare = [...counts.values()].reduce((total, count) => total + (count - 1000) ** 2 / 1000, 0)
    expect(chiSquare).toBeLessThan(23 + 5 * Math.sqrt(46))
  })
})
