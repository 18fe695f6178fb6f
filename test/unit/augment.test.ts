/** Augmentation: the same change for the same seed, and pictures that stay whole under it. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Augmenter, type Change, changeImage, drawChange } from '../../client/volunteer/augment.ts'
import { Random, Stream } from '../../shared/random.ts'

const NOTHING: Change = { right: 0, down: 0, radians: 0, scale: 1, mirrored: false }

const image = fc
  .record({
    height: fc.integer({ min: 1, max: 9 }),
    width: fc.integer({ min: 1, max: 9 }),
    channels: fc.constantFrom(1, 3),
  })
  .map((shape) => {
    const random = new Random(7)
    const count = shape.height * shape.width * shape.channels
    return { ...shape, pixels: Float32Array.from({ length: count }, (_, i) => random.uniform(i)) }
  })
interface Image {
  height: number
  width: number
  channels: number
  pixels: Float32Array
}

function changed({ height, width, channels, pixels }: Image, change: Partial<Change>): Float32Array {
  const to = new Float32Array(pixels.length)
  changeImage(pixels, to, [height, width, channels], { ...NOTHING, ...change })
  return to
}
/** The image whose pixel (x, y) is the one that `from` names; outside it is zero. */
function moved({ height, width, channels, pixels }: Image, from: (x: number, y: number) => [number, number]) {
  return pixels.map((_, at) => {
    const [channel, pixel] = [at % channels, Math.floor(at / channels)]
    const [x, y] = from(pixel % width, Math.floor(pixel / width))
    const inside = x >= 0 && x < width && y >= 0 && y < height
    return inside ? pixels[(y * width + x) * channels + channel] : 0
  })
}

describe('a change of an image', () => {
  test('by nothing is none', () => {
    fc.assert(
      fc.property(image, (image) => {
        expect(changed(image, {})).toEqual(image.pixels)
      }),
    )
  })

  test('by whole pixels moves them exactly', () => {
    const pixels = fc.integer({ min: -4, max: 4 })
    fc.assert(
      fc.property(image, pixels, pixels, fc.boolean(), (image, right, down, mirrored) => {
        const expected = moved(image, (x, y) => {
          return [mirrored ? image.width - 1 - (x - right) : x - right, y - down]
        })
        expect(changed(image, { right, down, mirrored })).toEqual(expected)
      }),
    )
  })

  test('by a quarter turn moves them exactly, clockwise', () => {
    fc.assert(
      fc.property(image, (any) => {
        const image = { ...any, height: any.width, pixels: any.pixels.slice(0, any.width ** 2 * any.channels) }
        fc.pre(image.pixels.length === any.width ** 2 * any.channels)
        const turned = changed(image, { radians: Math.PI / 2 })
        const expected = moved(image, (x, y) => [y, image.width - 1 - x])
        turned.forEach((value, i) => {
          expect(value).toBeCloseTo(expected[i], 5)
        })
      }),
    )
  })

  test('by half a pixel is the mean of two, and twice the size is half the slope', () => {
    const ramp = { height: 1, width: 5, channels: 1, pixels: Float32Array.of(0, 1, 2, 3, 4) }
    expect([...changed(ramp, { right: 0.5 })]).toEqual([0, 0.5, 1.5, 2.5, 3.5])
    expect([...changed(ramp, { scale: 2 })]).toEqual([1, 1.5, 2, 2.5, 3])
    // What would be outside is dark.
    expect([...changed(ramp, { scale: 0.5 })]).toEqual([0, 0, 2, 4, 0])
  })
})

describe('the changes drawn', () => {
  const all = { shift: 2, rotate: 10, zoom: 0.1, flip: true }

  test('[L9] are a pure function of the key, within their bounds, and use all of them', () => {
    const changes = Array.from({ length: 2000 }, (_, key0) => drawChange(all, { key0, key1: 5 }))
    expect(drawChange(all, { key0: 3, key1: 5 })).toEqual(changes[3])
    const within = (values: number[], most: number) => {
      for (const value of values) expect(Math.abs(value)).toBeLessThanOrEqual(most)
      expect(Math.max(...values)).toBeGreaterThan(0.99 * most)
      expect(Math.min(...values)).toBeLessThan(-0.99 * most)
    }
    within(
      changes.map(({ right }) => right),
      2,
    )
    within(
      changes.map(({ down }) => down),
      2,
    )
    within(
      changes.map(({ radians }) => radians),
      (10 * Math.PI) / 180,
    )
    within(
      changes.map(({ scale }) => scale - 1),
      0.1,
    )
    // Half of them, within five standard errors.
    const mirrored = changes.filter(({ mirrored }) => mirrored).length
    expect(Math.abs(mirrored - 1000)).toBeLessThan(5 * Math.sqrt(500))
  })

  test('follow the draws that are promised', () => {
    const key = { key0: 11, key1: 12 }
    const random = new Random(key, Stream.augment)
    const [right, down, radians, zoom] = [0, 1, 2, 3].map((i) => 2 * random.uniform(i) - 1)
    expect(drawChange(all, key)).toEqual({
      ...{ right: 2 * right, down: 2 * down, radians: (Math.PI / 180) * (10 * radians), scale: 1 + 0.1 * zoom },
      mirrored: random.uniform(4) < 0.5,
    })
    expect(drawChange({ shift: 0, rotate: 0, zoom: 0, flip: false }, key)).toEqual({
      ...{ right: expect.closeTo(0), down: expect.closeTo(0), radians: expect.closeTo(0), scale: 1, mirrored: false },
    })
  })

  test('of all zeros leave a picture as it is', () => {
    const picture = Float32Array.from({ length: 28 * 28 }, (_, i) => (i * 37) % 256)
    const before = picture.slice()
    new Augmenter({ shift: 0, rotate: 0, zoom: 0, flip: false }, [28, 28, 1]).apply(picture, { key0: 1, key1: 2 })
    expect(picture).toEqual(before)
  })
})
