/**
 * Random changes of training images: mirrored, turned, scaled and shifted, all in one step (bilinear, zeros from
 * outside). What happens to an example is a pure function of its draw key: Random(key, Stream.augment) gives, in this
 * order, the shift to the right, the shift downwards, the turn, the scale and whether it is mirrored.
 */
import type { Augmentation } from '../../shared/models.ts'
import { Random, Stream } from '../../shared/random.ts'

/** One image's change. */
export interface Change {
  /** Pixels to the right and downwards. */
  right: number
  down: number
  /** Clockwise, about the middle. */
  radians: number
  /** Larger than 1 enlarges, about the middle. */
  scale: number
  /** Left to right, before all else. */
  mirrored: boolean
}

export class Augmenter {
  private readonly augmentation: Augmentation
  private readonly shape: readonly [height: number, width: number, channels: number]
  private readonly before: Float32Array

  /** `inputShape` is one image's: [height, width] or [height, width, channels]. Throws where it is no image's. */
  constructor(augmentation: Augmentation, inputShape: readonly number[]) {
    const [height, width, channels = 1, ...more] = inputShape
    if (inputShape.length < 2 || more.length > 0) {
      throw new Error(`only images can be augmented: [height, width, channels], not examples of shape [${inputShape}]`)
    }
    this.augmentation = augmentation
    this.shape = [height, width, channels]
    this.before = new Float32Array(height * width * channels)
  }

  /** Changes one image where it lies. */
  apply(image: Float32Array, key: { key0: number; key1: number }): void {
    this.before.set(image)
    changeImage(this.before, image, this.shape, drawChange(this.augmentation, key))
  }
}

export function drawChange(augmentation: Augmentation, key: { key0: number; key1: number }): Change {
  const random = new Random(key, Stream.augment)
  /** Uniform over [-most, most). */
  const within = (index: number, most: number): number => most * (2 * random.uniform(index) - 1)
  return {
    right: within(0, augmentation.shift),
    down: within(1, augmentation.shift),
    radians: (Math.PI / 180) * within(2, augmentation.rotate),
    scale: 1 + within(3, augmentation.zoom),
    mirrored: augmentation.flip && random.uniform(4) < 0.5,
  }
}

/** Writes the changed image `from` to `to`, both height × width × channels. */
export function changeImage(
  from: Float32Array,
  to: Float32Array,
  [height, width, channels]: readonly [height: number, width: number, channels: number],
  { right, down, radians, scale, mirrored }: Change,
): void {
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2]
  // Each pixel looks back to where it comes from: unshifted, unturned, unscaled, unmirrored.
  const cos = Math.cos(radians) / scale
  const sin = Math.sin(radians) / scale
  const side = mirrored ? -1 : 1
  let at = 0
  for (let y = 0; y < height; y++) {
    const v = y - middleY - down
    for (let x = 0; x < width; x++) {
      const u = x - middleX - right
      const sourceX = side * (cos * u + sin * v) + middleX
      const sourceY = cos * v - sin * u + middleY
      const x0 = Math.floor(sourceX)
      const y0 = Math.floor(sourceY)
      const [fx, fy] = [sourceX - x0, sourceY - y0]
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0
        for (let corner = 0; corner < 4; corner++) {
          const cx = x0 + (corner & 1)
          const cy = y0 + (corner >> 1)
          const share = (corner & 1 ? fx : 1 - fx) * (corner >> 1 ? fy : 1 - fy)
          if (share === 0 || cx < 0 || cx >= width || cy < 0 || cy >= height) continue
          sum += share * from[(cy * width + cx) * channels + channel]
        }
        to[at++] = sum
      }
    }
  }
}
