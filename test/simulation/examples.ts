/** A dataset of nothing: it has shards, sizes and names, and no examples; nobody here looks at a pixel. */
import type { Blob, Dataset, Split } from '../../coordinator/datasets/dataset.ts'
import type { RunSpec } from '../../shared/run-spec.ts'

/** Examples in a shard: few, and no divisor of the usual sizes, so that leases cross shards. */
export const SHARD_EXAMPLES = 17

function split(examples: number, part: number): Split {
  const blobs = new Map<string, Blob>()
  return {
    examples,
    shardSize: SHARD_EXAMPLES,
    shards: Math.ceil(examples / SHARD_EXAMPLES),
    sha256: `${part}`,
    shard(index) {
      const hash = (part * 1_000_000 + index).toString(16).padStart(64, '0')
      const blob = blobs.get(hash) ?? { hash, bytes: new Uint8Array(1) }
      blobs.set(hash, blob)
      return blob
    },
    find: (hash) => blobs.get(hash)?.bytes ?? null,
    example: (index) => ({ input: new Uint8Array(4), label: index % 3 }),
  }
}

export function emptyDataset({ name, train = 100, test = 20 }: RunSpec['dataset']): Dataset {
  const shape = { inputShape: [2, 2, 1], classes: 3 }
  return { name, absent: null, ...shape, train: split(train, 1), test: split(test, 2) }
}
