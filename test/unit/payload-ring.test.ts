/** The ring against a plain queue: whatever is put in comes out whole until it is freed, and nothing overlaps. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PayloadRing, type Place } from '../../coordinator/journal/payload-ring.ts'

const SIZE = 100

test('payloads keep their bytes until they are freed, oldest first, whatever is put meanwhile', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(60), fc.constant('free' as const)), { maxLength: 200 }), (steps) => {
      const ring = new PayloadRing(SIZE)
      const memory = new Uint8Array(ring.memory)
      const kept: { place: Place; mark: number }[] = []
      steps.forEach((step, i) => {
        if (step === 'free') {
          if (kept.shift() !== undefined) ring.free(1)
        } else {
          const mark = 1 + (i % 255)
          const place = ring.put(new Uint8Array(step).fill(mark))
          if (place !== null) kept.push({ place, mark })
          else expect(kept.length, 'an empty ring takes what fits').toBeGreaterThan(0)
        }
        for (const { place, mark } of kept) {
          const bytes = memory.subarray(place.offset, place.offset + place.length)
          expect(bytes.every((byte) => byte === mark)).toBe(true)
        }
      })
    }),
  )
})

test('what is larger than the ring does not fit, and the whole ring does', () => {
  expect(new PayloadRing(SIZE).put(new Uint8Array(SIZE + 1))).toBeNull()
  expect(new PayloadRing(SIZE).put(new Uint8Array(SIZE))).toEqual({ offset: 0, length: SIZE })
})
