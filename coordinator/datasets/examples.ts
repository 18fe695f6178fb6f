/** What a dataset's files hold, whole and uncut, in the files' order. Whoever reads a format answers with this. */

/** One part of a data set: example i has `inputs[i·size, (i+1)·size)` and `labels[i]`. */
export interface Examples {
  readonly count: number
  readonly inputs: Uint8Array
  readonly labels: Uint8Array
}

export interface Source {
  /** [28, 28, 1] */
  readonly inputShape: readonly number[]
  /** 1 where there are no labels: all are 0 then. */
  readonly classes: number
  readonly train: Examples
  readonly test: Examples
}
