/**
 * The models of running stages as blobs: JSON that a lease names by hash, and beside it the parameters that are not
 * trained, as a blob of their own. Made once a stage; only the newest stage of a run is kept.
 */
import type { ModelBlob } from '../../shared/models.ts'
import type { Blob } from '../datasets/dataset.ts'
import type { Run } from './run.ts'
import type { Stage } from './stage.ts'

interface Made {
  readonly stage: Stage
  readonly model: Blob
  readonly fixed: Blob | null
}

export class ModelBlobs {
  private readonly name: (bytes: Uint8Array) => Blob
  private readonly made = new Map<string, Made>()

  /** `name` gives bytes their SHA-256. */
  constructor(name: (bytes: Uint8Array) => Blob) {
    this.name = name
  }

  hashOf(run: Run): string {
    const { stage } = run.history
    let made = this.made.get(run.id)
    if (made?.stage !== stage) {
      made = this.make(stage)
      this.made.set(run.id, made)
    }
    return made.model.hash
  }

  find(hash: string): Uint8Array | null {
    for (const { model, fixed } of this.made.values()) {
      if (model.hash === hash) return model.bytes
      if (fixed?.hash === hash) return fixed.bytes
    }
    return null
  }

  /** Nobody will compute with it any more. */
  forget(run: Run): void {
    this.made.delete(run.id)
  }

  private make(stage: Stage): Made {
    const { fixed: own, ...rest } = stage.model
    const values = own?.values
    const fixed = values ? this.name(new Uint8Array(values.slice().buffer)) : null
    const blob: ModelBlob = { ...rest, fixed: fixed && { hash: fixed.hash, layout: own!.layout } }
    return { stage, model: this.name(new TextEncoder().encode(JSON.stringify(blob))), fixed }
  }
}
