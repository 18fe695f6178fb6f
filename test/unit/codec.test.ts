/**
 * shared/codec.ts: one contract for every codec (sizes, ranges, round trips, refusals), and that a payload cut into
 * ranges holds the very bytes that each range gives on its own.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codecs, decodeVector, encodeVector, largestEncoding, payloadSize, rangeOffset } from '../../shared/codec.ts'
import { CODECS } from '../../shared/codec-names.ts'
import { createKernels, INT8_BLOCK } from '../../shared/kernels/kernels.ts'
import { RANGE_FLOATS, ranges } from '../../shared/layout.ts'

/** A spread of magnitudes; another one for another seed. */
function sample(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const hash = Math.imul(i + 1 + seed, 0x9e3779b1)
    return ((hash >> 8) / 2 ** 23) * 2 ** (hash & 3)
  })
}

const bytesOf = (vector: Float32Array) => new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength)

/** Half of the spacing of binary16 around x. */
function halfSpacing(x: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(x))))
  return 2 ** (exponent - 11)
}

const allowedError = {
  f32: () => 0,
  f16: (vector: Float32Array, i: number) => halfSpacing(vector[i]),
  int8: (vector: Float32Array, i: number) => {
    // A block never crosses a range, for a range is a whole number of blocks.
    const start = Math.floor(i / INT8_BLOCK) * INT8_BLOCK
    const largest = vector.subarray(start, start + INT8_BLOCK).reduce((most, x) => Math.max(most, Math.abs(x)), 0)
    return Math.fround(largest / 127) * (0.5 + 2 ** -16)
  },
}

const bytesPerFloat = { f32: 4, f16: 2, int8: 1 }

it('says how much room any of them needs', () => {
  // One float: four bytes, two, or a scale of four and one.
  expect([0, 1, 2, 256, RANGE_FLOATS].map(largestEncoding)).toEqual([0, 5, 8, 1024, 4 * RANGE_FLOATS])
})

it('has every codec that a RunSpec can name, under its name', () => {
  expect(Object.keys(codecs).sort()).toEqual([...CODECS].sort())
  for (const name of CODECS) expect(codecs[name].name).toBe(name)
})

describe.each(CODECS.map((name) => codecs[name]))('codec $name', (codec) => {
  it('says how large an encoding is', () => {
    for (const count of [0, 1, 255, 256, 257, 55_386, RANGE_FLOATS]) {
      const scales = codec.name === 'int8' ? 4 * Math.ceil(count / 256) : 0
      expect(codec.encodedSize(count)).toBe(bytesPerFloat[codec.name] * count + scales)
    }
  })

  it('lays ranges end to end', () => {
    for (const floats of [0, 1, 1000, RANGE_FLOATS - 1, RANGE_FLOATS, RANGE_FLOATS + 1, 3 * RANGE_FLOATS + 257]) {
      let offset = 0
      for (const { index, from, to } of ranges(floats)) {
        expect(rangeOffset(codec, index)).toBe(offset)
        offset += codec.encodedSize(to - from)
      }
      expect(payloadSize(codec, floats)).toBe(offset)
    }
  })

  it('returns every float within its error, over several ranges', () => {
    for (const count of [0, 1, 17, 1000, RANGE_FLOATS, RANGE_FLOATS + 300]) {
      const vector = sample(count, 1)
      const payload = encodeVector(codec, vector)
      expect(payload.length).toBe(payloadSize(codec, count))
      const decoded = decodeVector(codec, payload, count)
      let worst = 0
      const blockErrors = new Map<number, number>()
      for (let i = 0; i < count; i++) {
        const block = codec.name === 'int8' ? Math.floor(i / INT8_BLOCK) : i
        const allowed = blockErrors.get(block) ?? allowedError[codec.name](vector, i)
        if (codec.name === 'int8') blockErrors.set(block, allowed)
        worst = Math.max(worst, Math.abs(decoded[i] - vector[i]) - allowed)
      }
      expect(worst).toBeLessThanOrEqual(0)
    }
  })

  it('makes of a whole vector what it makes of each range alone, bit for bit', () => {
    const count = 2 * RANGE_FLOATS + 777
    const vector = sample(count, 2)
    const payload = encodeVector(codec, vector)
    const decoded = decodeVector(codec, payload, count)
    for (const { index, from, to } of ranges(count)) {
      const alone = encodeVector(codec, vector.subarray(from, to))
      const offset = rangeOffset(codec, index)
      expect(Buffer.compare(payload.subarray(offset, offset + alone.length), alone)).toBe(0)
      const decodedAlone = decodeVector(codec, alone, to - from)
      expect(Buffer.compare(bytesOf(decodedAlone), bytesOf(decoded.subarray(from, to)))).toBe(0)
    }
  })

  it('gives the same floats however a vector is cut at block boundaries', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.nat(8), fc.nat(1000), (count, blocks, seed) => {
        const vector = sample(count, seed)
        const whole = decodeVector(codec, encodeVector(codec, vector), count)
        const cut = Math.min(count, blocks * INT8_BLOCK)
        const parts = [vector.subarray(0, cut), vector.subarray(cut)].flatMap((part) => [
          ...decodeVector(codec, encodeVector(codec, part), part.length),
        ])
        expect([...whole]).toEqual(parts)
      }),
    )
  })

  it('cuts a piece out of an encoded range that decodes to the very floats', () => {
    const size = fc.integer({ min: 1, max: 3000 })
    fc.assert(
      fc.property(size, fc.nat(11), fc.nat(3000), fc.nat(1000), (count, firstBlock, length, seed) => {
        const from = Math.min(firstBlock, Math.floor((count - 1) / INT8_BLOCK)) * INT8_BLOCK
        const to = Math.min(count, from + length)
        const range = encodeVector(codec, sample(count, seed))
        const piece = new Uint8Array(codec.encodedSize(to - from))
        codec.cut(range, count, from, to, piece)
        const expected = decodeVector(codec, range, count).subarray(from, to)
        expect(Buffer.compare(bytesOf(decodeVector(codec, piece, to - from)), bytesOf(expected))).toBe(0)
      }),
    )
  })

  it('is stable: what was decoded encodes to floats as good as it', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, min: -1000, max: 1000 }), { maxLength: 600 }), (values) => {
        const once = decodeVector(codec, encodeVector(codec, Float32Array.from(values)), values.length)
        const twice = decodeVector(codec, encodeVector(codec, once), values.length)
        expect(twice.every((x, i) => Math.abs(x - once[i]) <= 1e-6 * Math.abs(once[i]))).toBe(true)
      }),
    )
  })

  it('sums squares of an encoded range as of its floats, at any byte offset, and sees what is not finite', () => {
    const kernels = createKernels()
    const base = kernels.reserve(4 * 4000 + 8)
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2000 }),
        fc.nat(7),
        fc.option(fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY)),
        fc.nat(),
        (count, shift, bad, where) => {
          const vector = sample(count, where % 1000)
          if (bad !== null) vector[where % count] = bad
          const payload = encodeVector(codec, vector)
          kernels.bytes(base + shift, payload.length).set(payload)
          const sum = codec.sumSquares(kernels, base + shift, count)
          expect(Number.isFinite(sum)).toBe(bad === null)
          if (bad !== null) return
          const exact = decodeVector(codec, payload, count).reduce((total, x) => total + x * x, 0)
          expect(Math.abs(sum - exact)).toBeLessThanOrEqual(exact * 2 ** -22)
        },
      ),
    )
  })

  it('leaves no trace of one vector in the next, and reads payloads out of a larger buffer', () => {
    const first = sample(RANGE_FLOATS, 3)
    const second = sample(19, 4)
    const expected = encodeVector(codec, second)
    encodeVector(codec, first)
    expect(encodeVector(codec, second)).toEqual(expected)
    const packet = new Uint8Array(expected.length + 20).fill(0xee)
    packet.set(expected, 7)
    const inside = packet.subarray(7, 7 + expected.length)
    expect(decodeVector(codec, inside, 19)).toEqual(decodeVector(codec, expected, 19))
  })

  it('refuses a payload of another length and says which it expected', () => {
    const payload = encodeVector(codec, sample(1000, 5))
    for (const wrong of [payload.subarray(1), new Uint8Array(payload.length + 1), new Uint8Array(0)]) {
      expect(() => decodeVector(codec, wrong, 1000)).toThrow(
        `expected ${payload.length} bytes for 1000 floats encoded as ${codec.name}, got ${wrong.length} bytes`,
      )
    }
  })
})

it('encodes f32 as the floats themselves', () => {
  const vector = sample(1001, 6)
  expect(Buffer.compare(encodeVector(codecs.f32, vector), bytesOf(vector))).toBe(0)
})

it('encodes known floats to known bytes', () => {
  expect([...encodeVector(codecs.f16, Float32Array.of(1, -2, 65504, 2 ** -24))]).toEqual([
    0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b, 0x01, 0x00,
  ])
  // Scale 254/127 = 2, then 127, -1, and 1/2 of a step to the even neighbour, 0.
  expect([...encodeVector(codecs.int8, Float32Array.of(254, -2, 1))]).toEqual([0, 0, 0, 0x40, 127, 255, 0])
})
