/** The datasets that runs were created or recovered with. */
import { misfit } from '../../shared/contradictions.ts'
import type { DatasetSpec, RunSpec } from '../../shared/run-spec.ts'
import type { Dataset } from '../datasets/dataset.ts'
import { Unfit } from '../datasets/unfit.ts'

export class OpenDatasets {
  private readonly openDataset: (spec: DatasetSpec) => Dataset
  private readonly opened = new Set<Dataset>()

  constructor(openDataset: (spec: DatasetSpec) => Dataset) {
    this.openDataset = openDataset
  }

  open(spec: DatasetSpec): Dataset {
    const dataset = this.openDataset(spec)
    this.opened.add(dataset)
    return dataset
  }

  /** The spec's dataset; throws Unfit where it cannot be opened or the model does not fit it. */
  fitting(spec: RunSpec): Dataset {
    const dataset = this.openDataset(spec.dataset)
    const misfitting = misfit(spec, dataset)
    if (misfitting !== null) throw new Unfit(misfitting.path.join('.'), misfitting.message)
    this.opened.add(dataset)
    return dataset
  }

  /** A shard that was asked for before, by its hash. */
  shard(hash: string): Uint8Array | null {
    for (const { train, test } of this.opened) {
      const shard = train.find(hash) ?? test.find(hash)
      if (shard !== null) return shard
    }
    return null
  }
}
