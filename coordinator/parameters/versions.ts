/**
 * Versions: the published states of the parameters that somebody may still ask for. A version's bytes never change
 * and are encoded once, however many volunteers fetch it. Only versions that a lease was bound to are kept, the
 * newest ones, within a memory budget; an older one is gone and its volunteer takes a new lease.
 */
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { CodecName } from '../../shared/run-spec.ts'
import type { Parameters } from './parameters.ts'

/** Bytes of kept versions in memory. */
const BUDGET_BYTES = 256 * 1024 * 1024
/** However large the model, so many versions are kept. */
const KEPT_MIN = 4

interface Kept {
  /** null while it is still the newest: the parameters themselves are its bytes. */
  values: Float32Array | null
  encoded: Uint8Array | null
}

export class Versions {
  private readonly parameters: Parameters
  private readonly codec: CodecName
  private readonly kept = new Map<number, Kept>()
  /** Arrays of versions that are gone, to be filled again: memory stays flat. */
  private readonly spare: Float32Array[] = []
  private readonly capacity: number

  constructor(parameters: Parameters, codec: CodecName) {
    this.parameters = parameters
    this.codec = codec
    this.capacity = Math.max(KEPT_MIN, Math.floor(BUDGET_BYTES / (8 * parameters.size)))
  }

  /** Somebody is bound to the newest version: it is to be kept. */
  pin(): number {
    const { version } = this.parameters
    if (!this.kept.has(version)) this.kept.set(version, { values: null, encoded: null })
    return version
  }

  /** To be called before a step: what is pinned is copied before it changes. */
  beforeStep(): void {
    const kept = this.kept.get(this.parameters.version)
    if (kept !== undefined && kept.values === null && kept.encoded === null) {
      kept.values = this.parameters.snapshot(this.spare.pop())
    }
    for (const [version, gone] of this.kept) {
      if (this.kept.size <= this.capacity) break
      this.kept.delete(version)
      if (gone.values !== null) this.spare.push(gone.values)
    }
  }

  /** The version's encoded bytes; null when it is gone or was never bound to a lease. */
  bytes(version: number): Uint8Array | null {
    const kept = this.kept.get(version)
    if (kept === undefined) return null
    if (kept.encoded === null) {
      const values = kept.values ?? this.parameters.snapshot(this.spare.pop())
      kept.encoded = encodeVector(codecs[this.codec], values)
      kept.values = null
      this.spare.push(values)
    }
    return kept.encoded
  }
}
