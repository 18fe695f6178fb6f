/** A RunSpec that cannot run, which only its data show: a file is missing, or holds other or fewer examples. */
export class Unfit extends Error {
  /** The spec's field that is to change: `dataset.train`. */
  readonly field: string

  constructor(field: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.field = field
  }
}
