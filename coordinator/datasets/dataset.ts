/**
 * Datasets, cut into shards. A shard's bytes are made (and hashed) the first time somebody asks for it.
 */

export interface Blob {
  /** SHA-256 of `bytes`, hexadecimal. */
  readonly hash: string
  readonly bytes: Uint8Array
}

/** One part (training or test) of a dataset: its examples lie in shards of `shardSize`, the last may be shorter. */
export interface Split {
  readonly examples: number
  readonly shardSize: number
  /** Shards there are. */
  readonly shards: number
  /** SHA-256 of all inputs and then all labels, hexadecimal. */
  readonly sha256: string
  /** The gzip-compressed bytes of shard.ts, content-addressed. */
  shard(index: number): Blob
  /** The bytes of a shard that was asked for before, by its hash; null where there is none. */
  find(hash: string): Uint8Array | null
  /** One example as the dataset has it: Π inputShape bytes (a view, not to be written to) and its class. */
  example(index: number): { readonly input: Uint8Array; readonly label: number }
}

export interface Dataset {
  readonly name: string
  /** Why its examples are not there (identity.ts, `standIn`); null where they are. */
  readonly absent: string | null
  /** [28, 28, 1] */
  readonly inputShape: readonly number[]
  /** 1 where there are no labels: all are 0 then. */
  readonly classes: number
  readonly train: Split
  readonly test: Split
}
