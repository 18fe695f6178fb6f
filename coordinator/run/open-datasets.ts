/** The datasets of the runs: each is opened once, and kept. */
import { misfit } from '../../shared/contradictions.ts'
import type { DatasetSpec, RunSpec } from '../../shared/run-spec.ts'
import type { Dataset } from '../datasets/dataset.ts'

/** A RunSpec that cannot run, which only the dataset shows. */
export class Unfit extends Error {
  readonly field: string

  constructor(field: string, message: string) {
    super(message)
    this.field = field
  }
}

export class OpenDatasets {
  private readonly openDataset: (spec: DatasetSpec) => Dataset
  private readonly opened = new Map<string, Dataset>()

  constructor(openDataset: (spec: DatasetSpec) => Dataset) {
    this.openDataset = openDataset
  }

  open(spec: DatasetSpec): Dataset {
    const key = JSON.stringify(spec)
    let dataset = this.opened.get(key)
    if (dataset === undefined) {
      dataset = this.openDataset(spec)
      this.opened.set(key, dataset)
    }
    return dataset
  }

  /** The spec's dataset; throws Unfit where it cannot be opened or the model does not fit it. */
  fitting(spec: RunSpec): Dataset {
    let dataset: Dataset
    try {
      dataset = this.open(spec.dataset)
    } catch (error) {
      // A plain error is an expected one, see DESIGN §8.
      const { message } = error as Error
      const expected = Object.getPrototypeOf(error) === Error.prototype && !message.startsWith('invariant:')
      throw expected ? new Unfit('dataset', message) : error
    }
    const misfitting = misfit(spec, dataset)
    if (misfitting !== null) throw new Unfit(misfitting.path.join('.'), misfitting.message)
    return dataset
  }

  /** A shard that was asked for before, by its hash. */
  shard(hash: string): Uint8Array | null {
    for (const { train, test } of this.opened.values()) {
      const shard = train.find(hash) ?? test.find(hash)
      if (shard !== null) return shard
    }
    return null
  }
}
