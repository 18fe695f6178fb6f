/** What an honest volunteer returns: a pure function of the lease's examples, the version's bytes and the run's seed. */
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import type { Segment } from '../../shared/protocol.ts'
import { Random } from '../../shared/random.ts'
import type { CodecName } from '../../shared/run-spec.ts'

export interface Computed {
  readonly seed: number
  readonly segments: readonly Segment[]
  readonly codec: CodecName
  readonly parametersCodec: CodecName
  /** Of the parameters at the version. */
  readonly bytes: Uint8Array
  /** Parameters there are. */
  readonly size: number
  readonly minibatches: number
}

/** The encoded sum of so many minibatches' gradients: a pull towards ½ everywhere, and noise of the examples' own. */
export function gradient({ seed, segments, codec, parametersCodec, bytes, size, minibatches }: Computed): Uint8Array {
  const parameters = decodeVector(codecs[parametersCodec], bytes, size)
  const random = new Random(
    seed,
    ...segments.flatMap(({ shardIndex, epoch, from, to }) => [shardIndex, epoch, from, to]),
  )
  const sum = parameters.map((value, i) => minibatches * (0.2 * (value - 0.5) + 0.3 * (2 * random.uniform(i) - 1)))
  return encodeVector(codecs[codec], sum)
}
