/**
 * Versions: the published states of the parameters that somebody may still ask for. A version's bytes never change
 * and are encoded once, however many volunteers fetch it. A version is kept while somebody holds it (a lease from when
 * its version is certain, an evaluation), the newest ones first where all of them would not fit in memory; whoever asks
 * for one that is gone takes a new lease.
 */
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { CodecName } from '../../shared/codec-names.ts'
import { type Refusal, refuse } from '../../shared/protocol.ts'
import type { Parameters } from './parameters.ts'

/** Bytes of kept versions in memory: of the founding document's net (6.7 MB), one for each of 80 volunteers. */
const BUDGET_BYTES = 512 * 1024 * 1024
/** However large the model, so many versions are kept. */
const KEPT_MIN = 4

interface Kept {
  holders: number
  /** Until it is encoded; null while it is the newest, too: the parameters themselves are its bytes. */
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
    this.capacity = Math.max(KEPT_MIN, Math.floor(BUDGET_BYTES / (4 * parameters.size)))
  }

  /** Somebody is to work on the version: while it is held, it is kept. One that is gone stays gone. */
  hold(version: number): void {
    const kept = this.kept.get(version)
    if (kept !== undefined) kept.holders++
    else if (version === this.parameters.version) this.kept.set(version, { holders: 1, values: null, encoded: null })
  }

  release(version: number): void {
    const kept = this.kept.get(version)
    if (kept === undefined) return
    kept.holders--
    if (kept.holders <= 0 && version !== this.parameters.version) this.drop(version, kept)
  }

  /** To be called before a step: the newest version, if anybody holds it, is copied before it changes. */
  beforeStep(): void {
    const { version } = this.parameters
    const newest = this.kept.get(version)
    if (newest === undefined) return
    if (newest.holders <= 0) return this.drop(version, newest)
    if (newest.encoded === null) newest.values = this.parameters.snapshot(this.spare.pop())
    for (const [oldest, kept] of this.kept) {
      if (this.kept.size <= this.capacity) break
      this.drop(oldest, kept)
    }
  }

  /** The version's encoded bytes; null when it is gone or nobody has ever held it. */
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

  /** The same for who asks; a refusal says why there are none. */
  find(version: number): Uint8Array | Refusal {
    const newest = this.parameters.version
    if (version > newest) return refuse('version-unknown', `there is no version ${version}; the newest is ${newest}`)
    const gone = `version ${version} is no longer kept; the newest is ${newest}`
    return this.bytes(version) ?? refuse('version-gone', gone)
  }

  /** Nobody will ask for one any more. */
  clear(): void {
    this.kept.clear()
    this.spare.length = 0
  }

  private drop(version: number, { values }: Kept): void {
    this.kept.delete(version)
    if (values !== null) this.spare.push(values)
  }
}
