/**
 * What a test found of each example, as it travels and is kept: a byte with the class that every example was taken
 * for, then each one's loss as a float32, little endian.
 */

const LOSS_BYTES = 4
/** Bytes an example. */
export const OUTCOME_BYTES = 1 + LOSS_BYTES

export class Outcomes {
  readonly bytes: Uint8Array
  readonly count: number
  private readonly losses: DataView

  /** A view of `bytes`, for `bytes.length / 5` examples. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.count = Math.floor(bytes.length / OUTCOME_BYTES)
    this.losses = new DataView(bytes.buffer, bytes.byteOffset + this.count, LOSS_BYTES * this.count)
  }

  /** Room for so many examples. */
  static of(count: number): Outcomes {
    return new Outcomes(new Uint8Array(OUTCOME_BYTES * count))
  }

  classOf(example: number): number {
    return this.bytes[example]
  }

  lossOf(example: number): number {
    return this.losses.getFloat32(LOSS_BYTES * example, true)
  }

  set(example: number, predicted: number, loss: number): void {
    this.bytes[example] = predicted
    this.losses.setFloat32(LOSS_BYTES * example, loss, true)
  }
}
