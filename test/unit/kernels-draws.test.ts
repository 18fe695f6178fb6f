/** The kernels of shared/kernels/assembly/draws.ts against shared/random.ts, bit by bit. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createKernels } from '../../shared/kernels/kernels.ts'
import { Random } from '../../shared/random.ts'

const kernels = createKernels()
const room = kernels.reserve(4 * 256)
const GUARD = 0xa5

const u32 = fc.nat(0xffffffff)
const first = fc.oneof(
  fc.nat(70),
  u32.map((value) => Math.min(value, 0xffffff00)),
)
const count = fc.nat(200)

/** The bytes that a kernel wrote, which were to be 4 · count. */
function written(count: number, work: (target: number) => void): ArrayBuffer {
  kernels.bytes(room, 4 * 256).fill(GUARD)
  const target = room + 16
  work(target)
  const all = kernels.bytes(room, 4 * 256).slice()
  expect(all.subarray(0, 16).every((byte) => byte === GUARD)).toBe(true)
  expect(all.subarray(16 + 4 * count).every((byte) => byte === GUARD)).toBe(true)
  return all.slice(16, 16 + 4 * count).buffer
}

test('words are the draws of Random', () => {
  fc.assert(
    fc.property(u32, u32, first, count, (key0, key1, first, count) => {
      const key = { key0, key1 }
      const random = new Random(key)
      const got = new Uint32Array(written(count, (target) => kernels.words(key, first, count, target)))
      expect(got).toEqual(Uint32Array.from({ length: count }, (_, i) => random.u32(first + i)))
    }),
  )
})

test('uniforms are the draws of Random, rounded down to 24 bits', () => {
  fc.assert(
    fc.property(u32, u32, first, count, (key0, key1, first, count) => {
      const key = { key0, key1 }
      const random = new Random(key)
      const got = new Float32Array(written(count, (target) => kernels.uniforms(key, first, count, target)))
      const expected = Array.from(
        { length: count },
        (_, i) => Math.floor(random.uniform(first + i) * 2 ** 24) / 2 ** 24,
      )
      expect([...got]).toEqual(expected)
    }),
  )
})

test('masks drop what Random draws below the rate', () => {
  const rate = fc.oneof(fc.constantFrom(0, 0.25, 0.5, 1 - 2 ** -20), fc.double({ min: 0, max: 0.999, noNaN: true }))
  fc.assert(
    fc.property(u32, u32, first, count, rate, (key0, key1, first, count, rate) => {
      const key = { key0, key1 }
      const random = new Random(key)
      const how = { rate, keep: 1.25 }
      const got = new Float32Array(written(count, (target) => kernels.masks(key, first, count, target, how)))
      expect([...got]).toEqual(Array.from({ length: count }, (_, i) => (random.uniform(first + i) < rate ? 0 : 1.25)))
      // Also where the rate is a draw itself.
      const exact = { rate: random.uniform(first), keep: 2 }
      const one = new Float32Array(written(1, (target) => kernels.masks(key, first, 1, target, exact)))
      expect([...one]).toEqual([2])
    }),
  )
})
