/** The format of a shard, there and back. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { elementsOf } from '../../shared/shape.ts'
import { decodeShard, encodeShard, type Shard } from '../../shared/shard.ts'

const small: Shard = {
  examples: 2,
  inputShape: [3, 1],
  inputs: Uint8Array.of(10, 11, 12, 20, 21, 22),
  labels: Uint8Array.of(7, 9),
}
const bytes = encodeShard(small)
const changed = (at: number, value: number) => {
  const copy = bytes.slice()
  copy[at] = value
  return copy
}

describe('a shard', () => {
  test('is laid out as its format says', () => {
    const header = [...new TextEncoder().encode('CGS1'), 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]
    expect([...bytes]).toEqual([...header, 10, 11, 12, 20, 21, 22, 7, 9])
  })

  test('comes back as it was, from a view at any offset too', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }),
        fc.nat({ max: 6 }),
        fc.nat({ max: 9 }),
        (inputShape, examples, offset) => {
          const size = elementsOf(inputShape)
          const inputs = Uint8Array.from({ length: examples * size }, (_, i) => (i * 37) & 0xff)
          const labels = Uint8Array.from({ length: examples }, (_, i) => i)
          const encoded = encodeShard({ examples, inputShape, inputs, labels })
          const shifted = new Uint8Array(offset + encoded.length)
          shifted.set(encoded, offset)
          expect(decodeShard(shifted.subarray(offset))).toEqual({ examples, inputShape, inputs, labels })
        },
      ),
      { numRuns: 100, seed: 1 },
    )
  })

  test.each([
    ['nothing', new Uint8Array(0), 'expected it to begin with CGS1'],
    ['another magic', changed(0, 0x44), 'expected it to begin with CGS1'],
    ['an impossible rank', changed(8, 200), 'rank 200 is not possible'],
    ['a header that is cut', bytes.slice(0, 15), 'rank 2 is not possible'],
    ['a byte too few', bytes.slice(0, -1), 'expected 28 bytes for 2 examples, got 27'],
    ['a byte too many', Uint8Array.from([...bytes, 0]), 'expected 28 bytes for 2 examples, got 29'],
    ['more examples than bytes', changed(7, 0xff), 'examples, got 28'],
  ])('%s is refused', (_, wrong, message) => {
    expect(() => decodeShard(wrong)).toThrow(message)
  })

  test('one whose arrays do not fit its shape is not encoded', () => {
    expect(() => encodeShard({ ...small, inputs: small.inputs.subarray(1) })).toThrow(
      'invariant: expected 6 input bytes',
    )
    expect(() => encodeShard({ ...small, labels: new Uint8Array(3) })).toThrow(
      'invariant: expected 6 input bytes and 2',
    )
    expect(() => encodeShard({ ...small, inputShape: new Array(9).fill(1) })).toThrow('rank 9')
  })
})
