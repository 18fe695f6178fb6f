/** The datasets that runs were created or recovered with. */
import { misfit } from '../../shared/contradictions.ts'
import type { DatasetSpec, RunSpec } from '../../shared/run-spec.ts'
import type { Dataset } from '../datasets/dataset.ts'
import { difference, type Identity, identityOf, standIn } from '../datasets/identity.ts'
import { Unfit } from '../datasets/unfit.ts'

export class OpenDatasets {
  private readonly openDataset: (spec: DatasetSpec) => Dataset
  private readonly opened = new Set<Dataset>()

  constructor(openDataset: (spec: DatasetSpec) => Dataset) {
    this.openDataset = openDataset
  }

  /** The spec's dataset; throws Unfit where it cannot be opened or the model does not fit it. */
  fitting(spec: RunSpec): Dataset {
    const dataset = this.openDataset(spec.dataset)
    const misfitting = misfit(spec, dataset)
    if (misfitting !== null) throw new Unfit(misfitting.path.join('.'), misfitting.message)
    this.opened.add(dataset)
    return dataset
  }

  /**
   * Of a run that was created before: the data that it was created with, and where these are not there what stands for
   * them. Throws Unfit where nobody wrote down what they were, naming the run.
   */
  again(run: string, { name, dataset: spec }: RunSpec, created: Identity | undefined): Dataset {
    try {
      const dataset = this.openDataset(spec)
      const changed = created && difference(created, identityOf(dataset))
      if (changed) throw new Unfit('dataset', changed)
      this.opened.add(dataset)
      return dataset
    } catch (error) {
      if (!(error instanceof Unfit)) throw error
      const { field, message } = error
      if (created !== undefined) return standIn(spec.name, created, `${field}: ${message}`)
      throw new Unfit(field, `run ${run} (${name}) lacks its data; put them back. ${field}: ${message}`, error)
    }
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
